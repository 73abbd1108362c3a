"""The schema of a function's arguments, as it is asked.

Compiled anew for each call, which takes microseconds: a cache would cost as much, and hold memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import jsonschema_rs

Schema = Mapping[str, object]
ANY_OBJECT: Schema = {"type": "object"}
HEAVIEST = 50_000  # parts, each counted as often as references lead to it


@dataclass(frozen=True, slots=True)
class Compiled:
    """A schema with its validator."""

    schema: Schema
    validator: jsonschema_rs.Validator

    def takes(self, value: object) -> bool:
        """Whether the value is an object that the schema takes; False where it cannot be told."""
        try:
            return isinstance(value, dict) and self.validator.is_valid(value)
        except ValueError:
            return False

    def named(self, word: str) -> tuple[str, ...]:
        """The names under `required` or `properties` of the schema itself."""
        names = self.schema.get(word)
        return tuple(str(name) for name in names) if isinstance(names, list | dict) else ()

    def at(self, path: list[str | int]) -> Schema:
        """The part of the schema at a path of an error; references within it are followed."""
        part: object = self.schema
        for step in path:
            part = _stepped(part, step)
            for _ in range(8):
                if not (isinstance(part, dict) and isinstance(part.get("$ref"), str)):
                    break
                part = self._referred(part["$ref"])
        return part if isinstance(part, dict) else {}

    def _referred(self, reference: str) -> object:
        part: object = self.schema
        for step in reference.removeprefix("#").strip("/").split("/"):
            part = _stepped(part, step) if step else part
        return part


def compiled(schema: object) -> Compiled:
    """The schema ready to check; what is no schema takes any object.

    Nothing is fetched: a reference that leaves the schema makes it no schema. So does one that
    is no pointer, and a schema that would keep its validator at work for long.
    """
    wanted = dict(schema) if isinstance(schema, dict) and schema else dict(ANY_OBJECT)
    try:
        _Weight(wanted).check()
        return Compiled(wanted, jsonschema_rs.validator_for(wanted, retriever=_nothing))
    except (ValueError, TypeError, RecursionError):
        return Compiled(ANY_OBJECT, jsonschema_rs.validator_for(dict(ANY_OBJECT)))


class _Weight:
    """How much a schema unfolds to: forty references in pairs lead to a million million checks."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._known: dict[str, int] = {}
        self._left = HEAVIEST

    def check(self) -> None:
        if self._of(self._schema) > HEAVIEST:
            raise ValueError

    def _of(self, part: object) -> int:
        self._left -= 1
        if self._left < 0:
            raise ValueError
        parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        found = 1 + sum(map(self._of, parts))
        if isinstance(part, dict):
            if part is not self._schema and isinstance(part.get("$id"), str):
                raise ValueError
            for word in ("$ref", "$dynamicRef", "$recursiveRef"):
                if isinstance(reference := part.get(word), str):
                    found += self._referred(reference)
        return found

    def _referred(self, reference: str) -> int:
        if reference not in self._known:
            self._known[reference] = 1  # of one that leads back to itself the validator takes care
            self._known[reference] = self._of(_pointed(self._schema, reference))
        return self._known[reference]


def _pointed(schema: Schema, reference: str) -> object:
    if reference != "#" and not reference.startswith("#/"):
        raise ValueError
    part: object = schema
    for step in unquote(reference).split("/")[1:]:
        part = _stepped(part, step.replace("~1", "/").replace("~0", "~"))
    if not isinstance(part, dict | bool):
        raise ValueError
    return part


def _nothing(uri: str) -> dict[str, object]:
    raise ValueError(uri)


def _stepped(part: object, step: str | int) -> object:
    if isinstance(part, dict) and step in part:
        return part[step]
    if isinstance(part, list) and str(step).isdigit() and int(step) < len(part):
        return part[int(step)]
    return part if step == "$ref" else None
