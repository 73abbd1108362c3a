"""Tools out of an OpenAPI document of version 3.0 or 3.1: one for each operation."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ai_stack.skill import SkillFailed

from .tools import HOLE, MAX_DEPTH, MAX_TOOLS, Place, Sent, Tool, checked, named, references

MAX_BYTES, MAX_DESCRIPTION, MAX_HOPS = 8 << 20, 4_000, 20
METHODS = ("get", "head", "post", "put", "patch", "delete")
SCHEMAS = "#/components/schemas/"
BODY = "body"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, which is many times faster
DROPPED = ("nullable", "example", "xml", "discriminator", "externalDocs")
NAMED, PLAIN = ("properties", "patternProperties"), ("enum", "const", "default", "examples")


@dataclass(slots=True)
class Api:
    """What a document describes; `left_out` says which operations were not taken, and why."""

    title: str
    version: str
    about: str
    url: str
    auth: dict[str, str]
    tools: list[Tool] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read(text: str, only: Sequence[str]) -> Api:
    """The API of a document; SkillFailed for what is none."""
    document = _loaded(text)
    info = _map(document.get("info"))
    servers = document.get("servers")
    first = _map(servers[0]) if isinstance(servers, list) and servers else {}
    api = Api(
        str(info.get("title", "API")), str(info.get("version", "")),
        str(info.get("description") or "")[:MAX_DESCRIPTION], _url(first), _auth(document),
    )  # fmt: skip
    taken = set[str]()
    for path, shared, method, operation in _operations(document):
        if only and not _wanted(operation, method, path, only):
            continue
        if len(api.tools) >= MAX_TOOLS:
            raise SkillFailed(f"There are more than {MAX_TOOLS} operations; name some by `only`.")
        try:
            api.tools.append(_tool(document, path, shared, method, operation, taken))
        except LeftOut as error:
            api.left_out.append(f"{method.upper()} {path[:100]} was left out: {error}")
    if not api.tools:
        told = api.left_out[0] if api.left_out else "no operation fits."
        raise SkillFailed(f"There is no tool to make: {told}")
    return api


class LeftOut(Exception):
    """Why an operation can be no tool."""


def _loaded(text: str) -> Mapping[str, Any]:
    if len(text) > MAX_BYTES:
        raise SkillFailed(f"The document is larger than {MAX_BYTES >> 20} MiB.")
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else _yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        raise SkillFailed("The document is neither JSON nor YAML.") from None
    version = str(_map(found).get("openapi", ""))
    if not version.startswith("3."):
        raise SkillFailed("This is no OpenAPI document of version 3; convert an older one first.")
    return _map(found)


def _yaml(text: str) -> Any:
    """YAML without aliases, which can make a small text a huge one, and not nested too deeply."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise SkillFailed("The document has YAML aliases; write out what they stand for.")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise SkillFailed(f"The document is nested deeper than {MAX_DEPTH}.")
    found = yaml.load(text, LOADER)  # noqa: S506 (either is a safe one)
    return json.loads(json.dumps(found, default=str))  # dates are texts here


def _operations(
    document: Mapping[str, Any],
) -> Iterator[tuple[str, list[Any], str, Mapping[str, Any]]]:
    for path, item in _map(document.get("paths")).items():
        found = _resolved(document, item)
        shared = found.get("parameters")
        for method in METHODS:
            if isinstance(operation := found.get(method), dict):
                yield str(path), shared if isinstance(shared, list) else [], method, operation


def _wanted(operation: Mapping[str, Any], method: str, path: str, only: Sequence[str]) -> bool:
    names = [operation.get("operationId"), f"{method.upper()} {path}", *_list(operation, "tags")]
    return any(name in only for name in names)


def _tool(
    document: Mapping[str, Any],
    path: str,
    shared: list[Any],
    method: str,
    operation: Mapping[str, Any],
    taken: set[str],
) -> Tool:
    found = Collected()
    for parameter in [*shared, *_list(operation, "parameters")]:
        found.add_parameter(_resolved(document, parameter))
    whole = found.add_body(document, _resolved(document, operation.get("requestBody") or {}))
    lost = [hole for hole in HOLE.findall(path) if ("path", hole) not in found.places.values()]
    if lost:
        raise LeftOut(f"the path's {lost[0][:60]} is no parameter.")
    schema: dict[str, Any] = {"type": "object", "properties": found.properties}
    schema["required"] = sorted(found.required)
    schema["additionalProperties"] = False
    schema = _closed(document, schema)
    name = str(operation.get("operationId") or f"{method}_{path}")
    checked(name[:60], schema)
    return Tool(
        named(name, taken), _described(operation, method, path), schema, _hints(method),
        Sent(method.upper(), path, found.places, whole),
    )  # fmt: skip


@dataclass(slots=True)
class Collected:
    """The arguments of one operation; where two have one name, the later says where it goes."""

    properties: dict[str, Any] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    places: dict[str, tuple[Place, str]] = field(default_factory=dict)

    def add_parameter(self, parameter: Mapping[str, Any]) -> None:
        place, name = parameter.get("in"), str(parameter.get("name", ""))
        needed = bool(parameter.get("required")) or place == "path"
        if place not in ("path", "query", "header") or "schema" not in parameter:
            if needed:
                raise LeftOut(f"it needs {name[:60]} in a form that is not supported.")
            return
        schema = {**_map(parameter["schema"])}
        if parameter.get("description"):
            schema.setdefault("description", str(parameter["description"])[:MAX_DESCRIPTION])
        self._add(name, schema, (place, name), needed)

    def add_body(self, document: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
        """Add the body's properties, or the body as one argument; whether it is one."""
        if not body:
            return False
        content = _map(body.get("content"))
        kind = next((k for k in content if k.split(";")[0].strip().endswith("json")), None)
        if kind is None:
            if body.get("required"):
                raise LeftOut("its body is no JSON.")
            return False
        given = _map(_map(content[kind]).get("schema"))
        schema = _resolved(document, given)
        properties = _map(schema.get("properties"))
        if schema.get("type") != "object" or not properties or set(properties) & set(self.places):
            self._add(BODY, dict(given), ("body", ""), bool(body.get("required")))
            return True
        needed = _list(schema, "required") if body.get("required") else []
        for name, inner in properties.items():
            self._add(str(name), dict(_map(inner)), ("body", str(name)), name in needed)
        return False

    def _add(
        self, name: str, schema: dict[str, Any], place: tuple[Place, str], needed: bool
    ) -> None:
        key = (
            name if name not in self.places or self.places[name] == place else f"{place[0]}_{name}"
        )
        self.properties[key], self.places[key] = schema, place
        self.required |= {key} if needed else set()


def _closed(document: Mapping[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with all that it refers to, in the terms of JSON Schema 2020-12."""
    waiting, found = [*references(schema)], dict[str, Any]()
    while waiting:
        reference = waiting.pop()
        if not reference.startswith(SCHEMAS):
            raise LeftOut(f"it refers to {reference[:80]}.")
        name = reference.removeprefix(SCHEMAS)
        if name not in found:
            found[name] = _pointed(document, reference)
            waiting += references(found[name])
    plain: dict[str, Any] = _modern(schema, 0)
    defined = {name: _modern(inner, 0) for name, inner in found.items()}
    return {**plain, "$defs": defined} if defined else plain


def _modern(schema: Any, depth: int) -> Any:
    """OpenAPI 3.0's own words as JSON Schema has them."""
    if depth > MAX_DEPTH:
        raise SkillFailed(f"A schema is nested deeper than {MAX_DEPTH}.")
    if isinstance(schema, list):
        return [_modern(item, depth + 1) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {k: _word(k, v, depth) for k, v in schema.items() if k not in DROPPED}
    if schema.get("nullable") is True and isinstance(kind := found.get("type"), str):
        found["type"] = [kind, "null"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(strict := found.get(exclusive), bool):
            del found[exclusive]
            if strict and bound in found:
                found[exclusive] = found.pop(bound)
    return found


def _word(word: str, value: Any, depth: int) -> Any:
    """One keyword's value; some are maps of schemas, some are no schemas at all."""
    if word == "$ref":
        return str(value).replace(SCHEMAS, "#/$defs/")
    if word in NAMED and isinstance(value, Mapping):
        return {name: _modern(inner, depth + 2) for name, inner in value.items()}
    return value if word in PLAIN else _modern(value, depth + 1)


def _resolved(document: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """What a reference leads to, within the document."""
    found = _map(value)
    for _ in range(MAX_HOPS):
        if not isinstance(reference := found.get("$ref"), str):
            return found
        found = _map(_pointed(document, reference))
    raise LeftOut("its references lead in a circle.")


def _pointed(document: Mapping[str, Any], reference: str) -> Any:
    if not reference.startswith("#/"):
        raise LeftOut(f"it refers to {reference[:80]}, outside of the document.")
    place: Any = document
    for step in reference[2:].split("/"):
        place = _map(place).get(step.replace("~1", "/").replace("~0", "~"))
        if place is None:
            raise LeftOut(f"it refers to {reference[:80]}, which is not there.")
    return place


def _described(operation: Mapping[str, Any], method: str, path: str) -> str:
    summary = str(operation.get("summary") or "").strip()
    more = str(operation.get("description") or "").strip()
    told = "\n\n".join(dict.fromkeys(filter(None, (summary, more))))
    return told[:MAX_DESCRIPTION] or f"{method.upper()} {path}"


def _hints(method: str) -> dict[str, bool]:
    if method in ("get", "head"):
        return {"readOnlyHint": True, "openWorldHint": True}
    return {
        "readOnlyHint": False,
        "destructiveHint": method != "post",
        "idempotentHint": method in ("put", "delete"),
        "openWorldHint": True,
    }


def _url(server: Mapping[str, Any]) -> str:
    """The address of a server with its variables' defaults; empty for a relative one."""
    url = str(server.get("url", ""))
    for name, variable in _map(server.get("variables")).items():
        url = url.replace(f"{{{name}}}", str(_map(variable).get("default", "")))
    return url if url.startswith(("http://", "https://")) else ""


def _auth(document: Mapping[str, Any]) -> dict[str, str]:
    """How a token is sent: as the first security scheme has it that is simple, else as bearer."""
    schemes = _map(_map(document.get("components")).get("securitySchemes"))
    for scheme in map(_map, schemes.values()):
        if scheme.get("type") == "apiKey" and scheme.get("in") in ("header", "query"):
            return {"in": str(scheme["in"]), "name": str(scheme.get("name", "")), "prefix": ""}
        if scheme.get("type") == "http" and str(scheme.get("scheme")).lower() == "basic":
            return {"in": "header", "name": "Authorization", "prefix": "Basic "}
    return {"in": "header", "name": "Authorization", "prefix": "Bearer "}


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(holder: Mapping[str, Any], key: str) -> list[Any]:
    value = holder.get(key)
    return value if isinstance(value, list) else []
