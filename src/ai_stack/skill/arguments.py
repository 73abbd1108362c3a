"""The arguments of a skill's actions: typed once, described as JSON Schema, checked."""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ai_stack.errors import InvalidRequest

MARK = "__skill_action__"
ACTION = "action"
Schema: TypeAlias = dict[str, Any]
ActionOf: TypeAlias = Callable[..., Awaitable[Any]]


def mark(method: ActionOf) -> None:
    setattr(method, MARK, True)


def is_action(member: object) -> bool:
    return getattr(member, MARK, False)


class Arguments:
    """What each action takes; models are made when they are first needed."""

    def __init__(self, actions: Mapping[str, ActionOf]) -> None:
        self.actions = actions

    @cached_property
    def models(self) -> dict[str, type[BaseModel]]:
        """A model for each action, by its name."""
        return {name: _model(name, method) for name, method in self.actions.items()}

    def checked(self, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The action that is named, and its arguments as the types that it declares."""
        name = self._named(given)
        model, rest = self.models[name], {k: v for k, v in given.items() if k != ACTION}
        try:
            found = model.model_validate(rest)
        except ValidationError as error:
            raise _refusal(name, error) from None
        return name, {field: getattr(found, field) for field in type(found).model_fields}

    def _named(self, given: Mapping[str, Any]) -> str:
        known = [*self.actions]
        name = given.get(ACTION, known[0] if len(known) == 1 else None)
        if name not in self.actions:
            told = f"{ACTION} must be one of {', '.join(known)}."
            raise InvalidRequest(told, fields={ACTION: told})
        return str(name)

    @cached_property
    def schema(self) -> Schema:
        """One JSON Schema (draft 2020-12) of an object, for all actions together."""
        return schema_of(
            {name: model.model_json_schema() for name, model in self.models.items()},
            {name: _summary(method) for name, method in self.actions.items()},
        )


def schema_of(schemas: Mapping[str, Schema], summaries: Mapping[str, str]) -> Schema:
    """The schemas of several actions in one: whose properties may be named, whose must be."""
    single = len(schemas) == 1
    found: Schema = {
        "type": "object",
        "properties": {ACTION: _choice(summaries), **_properties(schemas)},
        "additionalProperties": False,
        "required": _required(*schemas.values()) if single else [ACTION],
    }
    if not single:
        found["allOf"] = [_condition(name, schema) for name, schema in schemas.items()]
    if definitions := {k: v for s in schemas.values() for k, v in s.get("$defs", {}).items()}:
        found["$defs"] = definitions
    return found


def _choice(summaries: Mapping[str, str]) -> Schema:
    told = "; ".join(f"{name}: {summary}" for name, summary in summaries.items())
    found: Schema = {"type": "string", "enum": [*summaries], "description": told}
    return {**found, "default": next(iter(summaries))} if len(summaries) == 1 else found


def _properties(schemas: Mapping[str, Schema]) -> Schema:
    """Every property once; where actions differ in one, either form is good."""
    forms: dict[str, list[Schema]] = {}
    for schema in schemas.values():
        for name, form in schema.get("properties", {}).items():
            plain = {k: v for k, v in form.items() if k != "title"}
            if plain not in forms.setdefault(name, []):
                forms[name].append(plain)
    return {n: found[0] if len(found) == 1 else {"anyOf": found} for n, found in forms.items()}


def _condition(name: str, schema: Schema) -> Schema:
    names = [ACTION, *schema.get("properties", {})]
    return {
        "if": {"properties": {ACTION: {"const": name}}, "required": [ACTION]},
        "then": {"required": [ACTION, *_required(schema)], "propertyNames": {"enum": names}},
    }


def _required(schema: Schema) -> list[str]:
    return list(schema.get("required", []))


def _model(name: str, method: ActionOf) -> type[BaseModel]:
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    fields: dict[str, Any] = dict(_fields(method))
    return create_model(name, __config__=config, **fields)


def _fields(method: ActionOf) -> Iterator[tuple[str, tuple[Any, Any]]]:
    signature = inspect.signature(method, eval_str=True)
    for parameter in [*signature.parameters.values()][1:]:
        required = parameter.default is inspect.Parameter.empty
        yield parameter.name, (parameter.annotation, ... if required else parameter.default)


def _summary(method: ActionOf) -> str:
    return (inspect.getdoc(method) or "").split("\n", 1)[0].rstrip(".")


def _refusal(action: str, error: ValidationError) -> InvalidRequest:
    """Every field that is wrong, and in what."""
    fields = {_place(e["loc"]): str(e["msg"]) for e in error.errors(include_url=False)}
    told = "; ".join(f"{place}: {why}" for place, why in fields.items())
    return InvalidRequest(f"{action} cannot take this: {told}.", fields=fields)


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "(arguments)"
