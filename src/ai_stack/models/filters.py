"""The metadata filter language, parsed once into a tree that each backend compiles.

    {"a.b": value}                                equality, null equals absent
    {"year": {"gte"|"gt"|"lte"|"lt": value}}      ranges over numbers, or over strings
    {"tag": {"in": [...]}}                        the value is one of the list
    {"tags": {"contains": value}}                 the value is a list with this element
    {"and"|"or": [...]}, {"not": {...}}           several keys beside each other: all must hold

A range compares numbers with numbers and strings with strings (by code point, so ISO 8601
dates order as time); another type never matches. Numbers compare by value (1 equals 1.0);
true and false are no numbers. A path that is absent satisfies only `not` and equality with null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeGuard, cast, get_args

from ai_stack.errors import InvalidFilter

Scalar: TypeAlias = str | int | float | bool | None
Operator = Literal["gte", "gt", "lte", "lt"]
Path: TypeAlias = tuple[str, ...]

MAX_DEPTH, MAX_TERMS, MAX_PATH = 16, 256, 16


@dataclass(frozen=True, slots=True)
class Equals:
    path: Path
    value: Scalar


@dataclass(frozen=True, slots=True)
class Range:
    path: Path
    operator: Operator
    bound: str | int | float


@dataclass(frozen=True, slots=True)
class In:
    path: Path
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    path: Path
    value: Scalar


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    term: Filter


Filter: TypeAlias = Equals | Range | In | Contains | And | Or | Not


def parse_filter(raw: object) -> Filter | None:
    """The tree for a filter in JSON; None for no filter (null or `{}`).

    Raises InvalidFilter with the place of the fault, and for more than MAX_TERMS terms or
    MAX_DEPTH levels.
    """
    if raw is None or raw == {}:
        return None
    return _Parser().group(raw, "filter", 0)


class _Parser:
    def __init__(self) -> None:
        self.terms = 0

    def group(self, raw: object, place: str, depth: int) -> Filter:
        if not isinstance(raw, Mapping) or not raw:
            raise InvalidFilter(f"{place} must be an object with at least one key.")
        if depth >= MAX_DEPTH:
            raise InvalidFilter(f"{place} nests deeper than {MAX_DEPTH} levels.")
        parts = tuple(self.entry(str(k), v, f"{place}.{k}", depth) for k, v in raw.items())
        return parts[0] if len(parts) == 1 else And(parts)

    def entry(self, key: str, value: object, place: str, depth: int) -> Filter:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise InvalidFilter(f"A filter has at most {MAX_TERMS} terms.")
        if key in ("and", "or"):
            terms = self.groups(value, place, depth)
            return And(terms) if key == "and" else Or(terms)
        if key == "not":
            return Not(self.group(value, place, depth + 1))
        return self.condition(_path(key, place), value, place)

    def groups(self, raw: object, place: str, depth: int) -> tuple[Filter, ...]:
        if not isinstance(raw, list) or not raw:
            raise InvalidFilter(f"{place} must be a list of at least one filter.")
        return tuple(self.group(r, f"{place}[{i}]", depth + 1) for i, r in enumerate(raw))

    def condition(self, path: Path, value: object, place: str) -> Filter:
        if not isinstance(value, Mapping):
            return Equals(path, _scalar(value, place))
        if not value:
            raise InvalidFilter(f"{place} must name an operator.")
        parts = tuple(_operation(path, str(o), v, f"{place}.{o}") for o, v in value.items())
        return parts[0] if len(parts) == 1 else And(parts)


def _operation(path: Path, operator: str, value: object, place: str) -> Filter:
    if operator in get_args(Operator):
        return Range(path, cast(Operator, operator), _bound(value, place))
    if operator == "in":
        if not isinstance(value, list) or len(value) > MAX_TERMS:
            raise InvalidFilter(f"{place} must be a list of at most {MAX_TERMS} values.")
        return In(path, tuple(_scalar(v, place) for v in value))
    if operator == "contains":
        return Contains(path, _scalar(value, place))
    raise InvalidFilter(f"{place}: the operators are gte, gt, lte, lt, in and contains.")


def _path(key: str, place: str) -> Path:
    path = tuple(key.split("."))
    if not all(path) or len(path) > MAX_PATH or "\x00" in key or _surrogates(key):
        raise InvalidFilter(f"{place}: a path is 1 to {MAX_PATH} names joined by dots.")
    return path


def _scalar(value: object, place: str) -> Scalar:
    if isinstance(value, str) and ("\x00" in value or _surrogates(value)):
        raise InvalidFilter(f"{place} has a character that no stored text can have.")
    if value is None or isinstance(value, str | bool) or _finite(value):
        return value
    raise InvalidFilter(f"{place} must be a string, a finite number, true, false or null.")


def _bound(value: object, place: str) -> str | int | float:
    scalar = _scalar(value, place)
    if scalar is None or isinstance(scalar, bool):
        raise InvalidFilter(f"{place} must be a number or a string.")
    return scalar


def _finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and -1e308 <= value <= 1e308


def _surrogates(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def matches(tree: Filter, metadata: Mapping[str, object]) -> bool:
    """Whether metadata satisfies the filter: the language's reference meaning."""
    match tree:
        case And(terms):
            return all(matches(t, metadata) for t in terms)
        case Or(terms):
            return any(matches(t, metadata) for t in terms)
        case Not(term):
            return not matches(term, metadata)
        case Equals(path, value):
            return _equal(_at(metadata, path), value)
        case In(path, values):
            return any(_equal(_at(metadata, path), v) for v in values)
        case Contains(path, value):
            found = _at(metadata, path)
            return isinstance(found, list) and any(_equal(f, value) for f in found)
        case Range(path, operator, bound):
            return _compares(_at(metadata, path), operator, bound)


def _at(metadata: Mapping[str, object], path: Path) -> object:
    value: object = metadata
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _equal(found: object, value: Scalar) -> bool:
    return isinstance(found, bool) == isinstance(value, bool) and found == value


def _compares(found: object, operator: Operator, bound: str | int | float) -> bool:
    if isinstance(found, bool) or isinstance(found, str) != isinstance(bound, str):
        return False
    if not isinstance(found, str | int | float):
        return False
    low, high = cast("tuple[float, float]", (found, bound))  # both are numbers or both strings
    if operator in ("gte", "gt"):
        return low > high or (operator == "gte" and low == high)
    return low < high or (operator == "lte" and low == high)
