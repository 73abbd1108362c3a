"""The schema of a function's arguments, as it is asked.

Compiled anew for each call, which takes microseconds: a cache would cost as much, and hold memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jsonschema_rs

Schema = Mapping[str, object]
ANY_OBJECT: Schema = {"type": "object"}


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

    Nothing is fetched: a reference that leaves the schema makes it no schema.
    """
    wanted = dict(schema) if isinstance(schema, dict) and schema else dict(ANY_OBJECT)
    try:
        return Compiled(wanted, jsonschema_rs.validator_for(wanted, retriever=_nothing))
    except (ValueError, TypeError):
        return Compiled(ANY_OBJECT, jsonschema_rs.validator_for(dict(ANY_OBJECT)))


def _nothing(uri: str) -> dict[str, object]:
    raise ValueError(uri)


def _stepped(part: object, step: str | int) -> object:
    if isinstance(part, dict) and step in part:
        return part[step]
    if isinstance(part, list) and str(step).isdigit() and int(step) < len(part):
        return part[int(step)]
    return part if step == "$ref" else None
