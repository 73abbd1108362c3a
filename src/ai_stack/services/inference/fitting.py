"""Arguments made to fit the schema of their function, where only one reading of them does.

Only what the schema refuses is touched: a number written as a string, an enum in another case, one
value where a list belongs, a key in another spelling. Nothing is filled in, and nothing dropped but
a null for what may be absent.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import TypeAlias

from jsonschema_rs import ValidationError, ValidationErrorKind

from ai_stack.services.inference.loose_json import loosely_read
from ai_stack.services.inference.loose_strings import Unreadable
from ai_stack.services.inference.schemas import Compiled

ROUNDS = 12
MOST_ERRORS = 200
_DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.])")
_INTEGER = re.compile(r"[+-]?\d{1,30}(?:\.0+)?")
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?")
_WRAPPERS = ("arguments", "parameters", "args", "params", "input", "kwargs", "properties")
_BESIDE_WRAPPERS = frozenset({"name", "type", "id", "function"})
_ABSENT = (None, "null", "None")

Change: TypeAlias = tuple[object, str]
Types: TypeAlias = Sequence[str]


class Unfit(ValueError):
    """The arguments do not fit their schema, and no one reading of them does; says where."""


def fitted(value: object, schema: Compiled, source: str) -> tuple[dict[str, object], set[str]]:
    """The object that `value` means under the schema, and what was done to it; raises Unfit.

    `source` is the text that it was read from, for numbers whose spelling counts.
    """
    faults: set[str] = set()
    value = _decoded(value, faults)
    first: Unfit | None = None
    for candidate, fault in _candidates(value, schema):
        fitting = _Fitting(candidate, schema, source)
        try:
            return fitting.fitted(), faults | fitting.faults | ({fault} if fault else set())
        except Unfit as error:
            first = first or error
    raise first or Unfit("the arguments are no object")


def spelled(name: str) -> str:
    """A name without case and separators, by which spellings of it are compared."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _decoded(value: object, faults: set[str]) -> object:
    """Without the layers of JSON in JSON; nothing at all stands for an object without members."""
    for _ in range(3):
        if not isinstance(value, str) or not value.strip():
            break
        try:
            value, found = loosely_read(value)
        except Unreadable:
            break
        faults |= {"double-encoded", *found}
    if value is None or value == [] or (isinstance(value, str) and value.strip() in ("", "None")):
        faults.add("no-arguments")
        return {}
    return value


def _candidates(value: object, schema: Compiled) -> Iterator[tuple[dict[str, object], str | None]]:
    """The objects that may be meant: the value, what it wraps, a list of the one required."""
    required = schema.named("required")
    if isinstance(value, list) and len(value) == 1:
        if not isinstance(value[0], dict) and len(required) == 1:
            yield {required[0]: value[0]}, "positional-argument"
        value = value[0]
    if not isinstance(value, dict):
        return
    yield value, None
    for key in _WRAPPERS:
        if key in value and value.keys() - {key} <= _BESIDE_WRAPPERS:
            inner = _decoded(value[key], set())
            if isinstance(inner, dict):
                yield inner, "wrapped-arguments"


class _Fitting:
    """One object on its way into its schema: each round mends what the schema finds."""

    def __init__(self, value: dict[str, object], schema: Compiled, source: str) -> None:
        self.faults: set[str] = set()
        self._schema = schema
        self._source = source
        self._whole: list[object] = [deepcopy(value)]

    def fitted(self) -> dict[str, object]:
        for _ in range(ROUNDS):
            errors = self._errors()
            value = self._whole[0]
            if not errors and isinstance(value, dict):
                return value
            if not sum(map(self._mend, errors)):
                break
        raise Unfit(_told(errors))

    def _errors(self) -> list[ValidationError]:
        try:
            return list(self._schema.validator.iter_errors(self._whole[0]))[:MOST_ERRORS]
        except ValueError:
            raise Unfit("the arguments cannot be checked") from None

    def _mend(self, error: ValidationError) -> bool:
        """Mends one fault in place; False where it would be guesswork."""
        kind = error.kind
        if isinstance(kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
            if self._by_branch(kind.context):
                return True
        elif (change := self._change(error)) is not None:
            self._put(error.instance_path, change)
            return True
        return self._drop(error.instance_path)

    def _by_branch(self, context: Sequence[Sequence[ValidationError]]) -> bool:
        """Mends what the first schema finds of which all can be mended."""
        before, faults = deepcopy(self._whole), set(self.faults)
        for errors in context:
            if sum(map(self._mend, errors)) == len(errors) > 0:
                return True
            self._whole, self.faults = deepcopy(before), set(faults)
        return False

    def _change(self, error: ValidationError) -> Change | None:
        value, kind = self._at(error.instance_path), error.kind
        if isinstance(kind, ValidationErrorKind.Type):
            return _typed(value, [str(name) for name in kind.types], self._source)
        if isinstance(kind, ValidationErrorKind.Enum):
            return _chosen(value, list(kind.options))
        if isinstance(kind, ValidationErrorKind.Constant):
            return _chosen(value, [kind.expected_value])
        if isinstance(kind, ValidationErrorKind.Required):
            return _respelled(value, [str(kind.property)], self._known(error))
        if isinstance(kind, ValidationErrorKind.AdditionalProperties):
            return _respelled(value, [], self._known(error))
        return None

    def _known(self, error: ValidationError) -> list[str]:
        """The keys that the schema names where the error is."""
        known = self._schema.at(list(error.schema_path)[:-1]).get("properties")
        return list(known) if isinstance(known, dict) else []

    def _at(self, path: Sequence[str | int]) -> object:
        part: object = self._whole[0]
        for step in path:
            try:
                part = part[step]  # type: ignore[index]
            except (LookupError, TypeError):
                return None
        return part

    def _put(self, path: Sequence[str | int], change: Change) -> None:
        steps: list[str | int] = list(path)
        holder = self._at(steps[:-1]) if steps else self._whole
        if isinstance(holder, dict | list):
            holder[steps[-1] if steps else 0] = change[0]  # type: ignore[index]
            self.faults.add(change[1])

    def _drop(self, path: Sequence[str | int]) -> bool:
        """Drops a null; where it is required, the next round finds that it is missing."""
        steps = list(path)
        holder = self._at(steps[:-1]) if steps else None
        if (
            not isinstance(holder, dict)
            or self._at(steps) not in _ABSENT
            or steps[-1] not in holder
        ):
            return False
        del holder[steps[-1]]
        self.faults.add("null-for-absent")
        return True


def _told(errors: Sequence[ValidationError]) -> str:
    """Where it fails, by key and rule; values are the user's, and stay out of messages."""
    if not errors:
        return "the arguments are no object"
    path = ".".join(str(step) for step in errors[0].instance_path)
    rule = f"`{path}`" if path else "the arguments"
    return f"{rule} against `{errors[0].kind.name}` of the schema"


def _respelled(value: object, missing: Sequence[str], known: Sequence[str]) -> Change | None:
    """The object with its unknown keys in the spelling of known ones, if each is the only one."""
    if not isinstance(value, dict):
        return None
    wanted = {*missing, *known} - value.keys()
    names: dict[str, str] = {}
    for key in value.keys() - {*known, *missing}:
        meant = [name for name in wanted if spelled(name) == spelled(key)]
        if len(meant) == 1 and meant[0] not in names.values():
            names[key] = meant[0]
    if not names:
        return None
    return {names.get(key, key): member for key, member in value.items()}, "key-spelling"


def _chosen(value: object, options: Sequence[object]) -> Change | None:
    """The one option that is spelled like the value."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str | int | float):
        return None
    alike = [option for option in options if spelled(str(option)) == spelled(str(value))]
    return (alike[0], "enum-spelling") if len(alike) == 1 and spelled(str(value)) else None


def _typed(value: object, types: Types, source: str) -> Change | None:
    """The value as one of the types, if it has one reading as that."""
    if isinstance(value, str):
        return _from_string(value, types)
    if isinstance(value, bool | int | float):
        return _from_scalar(value, types, source) or _listed(value, types)
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list | dict):
        return value[0], "array-for-value"
    if isinstance(value, dict):
        if value.keys() == {"type", "value"}:
            return value["value"], "wrapped-value"
        return _listed(value, types)
    return None


def _listed(value: object, types: Types) -> Change | None:
    return ([value], "value-for-array") if "array" in types else None


def _from_string(value: str, types: Types) -> Change | None:
    text = value.strip()
    for name, read in _READERS.items():
        if name in types and (change := read(text)) is not None:
            return change
    if not text or text[0] in "[{" or text in _ABSENT:
        return None
    return _listed(value, types)


def _as_null(text: str) -> Change | None:
    return (None, "null-as-string") if text in _ABSENT else None


def _as_integer(text: str) -> Change | None:
    return (int(text.partition(".")[0]), "number-as-string") if _INTEGER.fullmatch(text) else None


def _as_number(text: str) -> Change | None:
    return _as_integer(text) or (
        (float(text), "number-as-string") if _NUMBER.fullmatch(text) else None
    )


def _as_boolean(text: str) -> Change | None:
    named = {"true": True, "false": False}.get(text.lower())
    return None if named is None else (named, "boolean-as-string")


def _as_array(text: str) -> Change | None:
    return _nested(text, "[(", list)


def _as_object(text: str) -> Change | None:
    return _nested(text, "{", dict)


def _nested(text: str, openers: str, wanted: type) -> Change | None:
    """JSON within a string."""
    if text[:1] not in tuple(openers):
        return None
    try:
        value, _ = loosely_read(text)
    except Unreadable:
        return None
    return (value, "double-encoded") if isinstance(value, wanted) else None


_READERS: dict[str, Callable[[str], Change | None]] = {
    "null": _as_null,
    "integer": _as_integer,
    "number": _as_number,
    "boolean": _as_boolean,
    "array": _as_array,
    "object": _as_object,
}


def _from_scalar(value: bool | int | float, types: Types, source: str) -> Change | None:
    if isinstance(value, bool):
        return (str(value).lower(), "boolean-for-string") if "string" in types else None
    if "boolean" in types and value in (0, 1):
        return bool(value), "number-for-boolean"
    if "string" not in types:
        return None
    text = str(value) if isinstance(value, int) else _spelling(value, source)
    return None if text is None else (text, "number-for-string")


def _spelling(value: float, source: str) -> str | None:
    """How a number was written, since 1.10 as a text is not 1.1; None where that is not sure."""
    spellings = {text for text in _DECIMAL.findall(source) if float(text) == value}
    return spellings.pop() if len(spellings) == 1 else None
