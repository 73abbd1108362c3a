"""JSON Schemas of what tools take and give: small, since models read them at every turn."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

Schema = dict[str, Any]


def schema_of(kind: Any) -> Schema:
    """The schema of a model or a TypedDict, without what says nothing to a model."""
    trimmed = _trimmed(TypeAdapter(kind).json_schema())
    assert isinstance(trimmed, dict)
    trimmed.pop("description", None)  # the tool's own is beside it
    return trimmed


def _trimmed(value: Any) -> Any:
    if isinstance(value, list):
        return [_trimmed(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    found = dict(value)
    if isinstance(found.get("title"), str):
        del found["title"]
    if found.get("default", 0) is None:
        del found["default"]
    kinds = [one for one in found.get("anyOf", ()) if one != {"type": "null"}]
    if len(kinds) == 1:
        del found["anyOf"]
        found = {**kinds[0], **found}
        found.pop("title", None)
    return {name: _trimmed(one) for name, one in found.items()}
