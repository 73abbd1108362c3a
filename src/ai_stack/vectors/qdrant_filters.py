"""The filter language in Qdrant's terms, with exact answers; it knows no client of Qdrant.

Qdrant matches arrays element by element, has ranges for numbers only, and paths with a syntax
of their own, so no filter looks at metadata itself. A point carries derived fields instead:

    t        a 63-bit hash of (path, value) for each scalar, and of each element of a list
    e        a hash of each path that holds anything but null
    n.<path> a number as float64
    s.<path>0 to 3   the first 24 bytes of a string, six to a number, which order as it does
    m        the metadata as JSON, only where n or s had to round

Equality, `in`, `contains` and null are exact by `t` and `e`. A range is exact unless its bound is
a number beyond 2^53 or a string of 24 bytes or more: then the conditions let through the ties,
and `Conditions.admits` settles them by `m`. Conditions are JSON in the form of Qdrant's REST API.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, TypeAlias
from uuid import UUID

from ai_stack.models.documents import Metadata
from ai_stack.models.filters import (
    MAX_PATH,
    And,
    Contains,
    Equals,
    Filter,
    In,
    Not,
    Operator,
    Or,
    Path,
    Range,
    Scalar,
    matches,
)

Condition: TypeAlias = dict[str, Any]  # JSON of the engine's own shape
Payload: TypeAlias = dict[str, Any]

SAFE, LARGEST = 2.0**53, 1.7976931348623157e308
WORD, WORDS = 6, 4
INDEXED_WORDS = 2
NOTHING: Condition = {"key": "t", "match": {"any": [-1]}}


def payload(metadata: Metadata) -> Payload:
    """The derived fields of a point."""
    terms: list[int] = []
    present: list[int] = []
    numbers: dict[str, float] = {}
    words: dict[str, int] = {}
    rounded = False
    for path, value in _walk(metadata):
        present.append(_term("e", path))
        terms.extend(_terms(path, value))
        if isinstance(value, str):
            rounded |= _add_words(words, path, value)
        elif _ordered(value):
            rounded |= _add_number(numbers, path, value)
    derived: Payload = {"t": terms, "e": present, "n": numbers, "s": words}
    return derived | ({"m": json.dumps(metadata)} if rounded else {})


def _walk(metadata: Mapping[str, object], above: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every path that a filter can name and that holds something."""
    for name, value in metadata.items():
        if value is None or not name or "." in name or "\x00" in name or len(above) >= MAX_PATH:
            continue
        yield (*above, name), value
        if isinstance(value, Mapping):
            yield from _walk(value, (*above, name))


def _terms(path: Path, value: object) -> Iterator[int]:
    if isinstance(value, list | tuple):
        yield from (_term("c", path, _canonical(v)) for v in value if _scalar(v))
    elif _scalar(value):
        yield _term("v", path, _canonical(value))


def _scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _ordered(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and not (isinstance(value, float) and math.isnan(value))


def _canonical(value: object) -> str:
    """One text for each value of the language: numbers by value, types apart."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{'bool' if isinstance(value, bool) else ''}{value!r}"


def _term(kind: Literal["v", "c", "e"], path: Path, value: str = "") -> int:
    text = f"{kind}{len(path)}\x00{chr(0).join(path)}\x00{value}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def _field(kind: Literal["n", "s"], path: Path) -> str:
    return f"{kind}.{_term('e', path):016x}"


def _float(value: float) -> float:
    try:
        return max(-LARGEST, min(LARGEST, float(value)))
    except OverflowError:
        return LARGEST if value > 0 else -LARGEST


def _add_number(numbers: dict[str, float], path: Path, value: Any) -> bool:
    numbers[_field("n", path)[2:]] = rounded = _float(value)
    return abs(rounded) >= SAFE


def _add_words(words: dict[str, int], path: Path, value: str) -> bool:
    text = value.encode("utf-8", "surrogatepass")
    for i, word in enumerate(_words(text)):
        words[f"{_field('s', path)[2:]}{i}"] = word
    return len(text) >= WORD * WORDS


def _words(text: bytes) -> list[int]:
    padded = text[: WORD * WORDS].ljust(WORD * WORDS, b"\x00")
    return [int.from_bytes(padded[i : i + WORD], "big") for i in range(0, WORD * WORDS, WORD)]


@dataclass(frozen=True, slots=True)
class Conditions:
    """A compiled filter.

    `exact` says that no tie has to be settled, `linked` that the graph's extra edges serve it
    (only equality, `in` and `contains`), `fields` which numeric fields it orders by.
    """

    tree: Filter | None
    must: list[Condition]
    exact: bool
    linked: bool
    fields: list[str]

    def admits(self, stored: str | None) -> bool:
        """Whether a found point that carries `m` (or none) is a true match."""
        if self.exact or self.tree is None or stored is None:
            return True
        return matches(self.tree, json.loads(stored))


def compile_filter(tree: Filter | None) -> Conditions:
    compiler = _Compiler()
    must = [] if tree is None else [compiler.condition(tree, over=True)]
    return Conditions(tree, must, compiler.exact, compiler.linked, sorted(compiler.fields))


def of_project(project_id: UUID) -> Condition:
    """The condition that every request carries."""
    return {"key": "p", "match": {"value": str(project_id)}}


class _Compiler:
    """`over` asks for conditions that may let a tie through; without, they may shut one out."""

    def __init__(self) -> None:
        self.exact = self.linked = True
        self.fields: set[str] = set()

    def condition(self, tree: Filter, over: bool) -> Condition:
        match tree:
            case And(terms):
                return {"must": [self.condition(t, over) for t in terms]}
            case Or(terms):
                return {"should": [self.condition(t, over) for t in terms]}
            case Not(term):
                self.linked = False
                return {"must_not": [self.condition(term, not over)]}
            case Equals(path, value):
                return self.any_of(path, (value,))
            case In(path, values):
                return self.any_of(path, values)
            case Contains(path, value):
                return _match([_term("c", path, _canonical(value))])
            case Range(path, operator, bound):
                self.linked = False
                return self.compared(path, operator, bound, over)

    def any_of(self, path: Path, values: tuple[Scalar, ...]) -> Condition:
        terms = [_term("v", path, _canonical(v)) for v in values if v is not None]
        if None not in values:
            return _match(terms) if terms else NOTHING
        self.linked = False
        absent: Condition = {
            "must_not": [{"key": "e", "match": {"any": [_term("e", path)]}}],
        }
        return {"should": [absent, *([_match(terms)] if terms else [])]}

    def compared(self, path: Path, operator: Operator, bound: float | str, over: bool) -> Condition:
        if isinstance(bound, str):
            return self.compared_text(path, operator, bound.encode(), over)
        limit = _float(bound)
        self.fields.add(_field("n", path))
        return _range(_field("n", path), self.settled(operator, abs(limit) >= SAFE, over), limit)

    def compared_text(self, path: Path, operator: Operator, bound: bytes, over: bool) -> Condition:
        """Word by word: the first word decides, on a tie the second, and so on."""
        keys = [f"{_field('s', path)}{i}" for i in range(WORDS)]
        self.fields.update(keys[:INDEXED_WORDS])
        last = self.settled(operator, len(bound) >= WORD * WORDS, over)
        words = _words(bound)
        cases: list[Condition] = []
        for i, (key, word) in enumerate(zip(keys, words, strict=True)):
            ties = [_tie(k, w) for k, w in zip(keys[:i], words[:i], strict=True)]
            strict = last if i == WORDS - 1 else _strict(operator)
            cases.append({"must": [*ties, _range(key, strict, word)]})
        return {"should": cases}

    def settled(self, operator: Operator, rounded: bool, over: bool) -> Operator:
        if not rounded:
            return operator
        self.exact = False
        strict = _strict(operator)
        if not over:
            return strict
        return "gte" if strict == "gt" else "lte"


def _strict(operator: Operator) -> Operator:
    return "gt" if operator in ("gt", "gte") else "lt"


def _match(terms: list[int]) -> Condition:
    return {"key": "t", "match": {"any": terms}}


def _range(key: str, operator: Operator, bound: float) -> Condition:
    return {"key": key, "range": {operator: bound}}


def _tie(key: str, word: int) -> Condition:
    return {"key": key, "range": {"gte": word, "lte": word}}
