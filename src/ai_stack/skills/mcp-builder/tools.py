"""A tool of a server to be: its schema, and the HTTP request that does it, if one does."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ai_stack.skill import SkillFailed

Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Place: TypeAlias = Literal["path", "query", "header", "body"]
HOLE = re.compile(r"\{([^{}]+)\}")
MAX_TOOLS, MAX_SCHEMA, MAX_DEPTH = 200, 200_000, 60
BODILESS = ("GET", "HEAD", "DELETE")


class Request(BaseModel):
    """The HTTP request of a tool that its maker specifies."""

    model_config = ConfigDict(extra="forbid")

    method: Method = "GET"
    path: Annotated[str, Field(pattern=r"^/", max_length=1000, description="As in /orders/{id}.")]


class Spec(BaseModel):
    """A tool as its maker specifies it."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: Annotated[str, Field(min_length=1, max_length=4000)]
    parameters: Annotated[dict[str, JsonValue], Field(description="JSON Schema of an object.")] = {}
    read_only: Annotated[bool, Field(description="Whether it changes nothing.")] = False
    destructive: Annotated[bool, Field(description="Whether it may destroy something.")] = True
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """How a call becomes a request: where each argument goes, under which name."""

    method: str
    path: str
    arguments: Mapping[str, tuple[Place, str]]
    whole_body: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """`schema` is of an object; `sent` is None for a tool that a function does."""

    name: str
    description: str
    schema: Mapping[str, Any]
    annotations: Mapping[str, Any] = field(default_factory=dict)
    sent: Sent | None = None

    def to_json(self) -> dict[str, Any]:
        """As tools.json has it."""
        shown = {
            "name": self.name,
            "description": self.description,
            "inputSchema": dict(self.schema),
            "annotations": dict(self.annotations),
        }
        if self.sent is None:
            return {"tool": shown}
        request = {
            "method": self.sent.method,
            "path": self.sent.path,
            "arguments": {name: [*place] for name, place in self.sent.arguments.items()},
            "whole_body": self.sent.whole_body,
        }
        return {"tool": shown, "request": request}


def of_spec(spec: Spec) -> Tool:
    """The tool of a specification."""
    schema: dict[str, Any] = {"type": "object", "properties": {}, **spec.parameters}
    if spec.request:  # each argument has a place in the request, so none but these
        schema = {**schema, "additionalProperties": False}
        schema.pop("patternProperties", None)
    checked(spec.name, schema)
    hints = {"readOnlyHint": spec.read_only}
    if not spec.read_only:
        hints["destructiveHint"] = spec.destructive
    sent = _sent(spec.name, spec.request, schema) if spec.request else None
    return Tool(spec.name, spec.description, schema, hints, sent)


def _sent(name: str, request: Request, schema: Mapping[str, Any]) -> Sent:
    """Arguments in the path go there, all others into the query or the body."""
    properties = [*schema["properties"]]
    holes = HOLE.findall(request.path)
    unknown = [hole for hole in holes if hole not in schema.get("required", ())]
    if unknown:
        raise SkillFailed(f"{name}: {unknown[0][:60]} in the path must be a required parameter.")
    rest: Place = "query" if request.method in BODILESS else "body"
    places: dict[str, tuple[Place, str]] = {
        p: ("path" if p in holes else rest, p) for p in properties
    }
    return Sent(request.method, request.path, places)


def checked(name: str, schema: Mapping[str, Any]) -> None:
    """Refuse what is no schema of an object, or reaches outside of itself."""
    if len(json.dumps(schema)) > MAX_SCHEMA:
        raise SkillFailed(f"{name}: the schema is larger than {MAX_SCHEMA // 1000} kB.")
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        raise SkillFailed(f"{name}: the parameters must be a schema of an object.")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path))
        raise SkillFailed(f"{name}: the schema is none, at {place or 'its root'}.") from None
    outside = [ref for ref in references(schema) if not ref.startswith("#")]
    if outside:
        raise SkillFailed(f"{name}: the schema refers to {outside[0][:80]}, outside of itself.")


def references(value: Any, depth: int = 0) -> Iterator[str]:
    """Every `$ref` within a schema."""
    if depth > MAX_DEPTH:
        raise SkillFailed(f"A schema is nested deeper than {MAX_DEPTH}.")
    if isinstance(value, Mapping):
        if isinstance(found := value.get("$ref"), str):
            yield found
        for inner in value.values():
            yield from references(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner, depth + 1)


def named(name: str, taken: set[str]) -> str:
    """A name that a tool may have and that is not taken; it is then."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60] or "tool"
    found, number = plain, 2
    while found in taken:
        found, number = f"{plain}_{number}", number + 1
    taken.add(found)
    return found
