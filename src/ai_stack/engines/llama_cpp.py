"""One llama.cpp server: `llama-cpp://host:8080`, with TLS `llama-cpp+https://host`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from ai_stack.engines import Reply
from ai_stack.engines.assembly import Assembled, assembled, streamed
from ai_stack.engines.forms import Formed, check_offered, differs, formed
from ai_stack.engines.infill import Infill
from ai_stack.engines.listing import entries, number, served
from ai_stack.engines.openai import PATHS
from ai_stack.engines.origin import Origin
from ai_stack.engines.wire import Wire, parsed, strange
from ai_stack.errors import InvalidRequest
from ai_stack.models.inference import (
    GENERATION,
    Body,
    Call,
    Operation,
    ServedModel,
    Tokens,
)

PORT = 8080
NO_SUCH_TOOL = "tool_choice names no function that is among tools."
UNLOADED = ("unloaded", "downloading", "loading", "failed", "sleeping")
PROBES: tuple[Operation, ...] = ("rerank", "embedding")


class LlamaCppEngine:
    """Calls go through as they are, but for a completion with a suffix.

    A server in router mode lists many models, of which it tells less until they are loaded.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._seen: dict[tuple[str, str], ServedModel] = {}
        self._infills: dict[str, Infill] = {}

    @property
    def name(self) -> str:
        return self._wire.name

    async def models(self) -> Sequence[ServedModel]:
        listed = [*entries(await self._wire.ask("/v1/models"))]
        if any("status" in entry for entry in listed):
            return [_routed(entry) for entry in listed]
        told = await self._wire.ask("/props")
        if not isinstance(told, dict):
            raise strange()
        return [await self._described(entry, told) for entry in listed]

    async def _described(self, entry: Mapping[str, Any], told: Mapping[str, Any]) -> ServedModel:
        revision = _revision(entry, told)
        known = self._seen.get((entry["id"], revision))
        if known is None:
            self._infills.pop(entry["id"], None)
            known = replace(served(entry), revision=revision, operations=await self._operations())
            self._seen[known.id, revision] = known
        settings = told.get("default_generation_settings")
        context = settings.get("n_ctx") if isinstance(settings, dict) else None
        return replace(known, context_length=number(context), slots=number(told.get("total_slots")))

    async def _operations(self) -> frozenset[Operation]:
        """Asked by requests without content: the server lists none of it."""
        for operation in PROBES:
            if await self._wire.offers("/v1" + PATHS[operation]):
                return frozenset({operation})
        return GENERATION

    async def send(self, call: Call) -> Reply:
        if call.operation not in GENERATION:
            return await self._wire.open("/v1" + PATHS[call.operation], call.encoded, call.trace)
        body = call.body
        check_offered(body)
        if call.operation == "completion" and body.get("suffix"):
            body = await self._filled(body)
        body = allowed(body)
        if call.streamed:
            return await self._streamed(call, body)
        if body.get("logprobs"):
            return await self._with_logprobs(call, body)
        return await assembled(await self._streamed(call, streamed(body)))

    async def _streamed(self, call: Call, body: Body) -> Reply:
        encoded = call.encoded if body is call.body else orjson.dumps(body)
        reply = await self._wire.open("/v1" + PATHS[call.operation], encoded, call.trace)
        if not differs(call.operation, body):
            return reply
        several = body.get("n", 1)
        return Formed(reply, several if isinstance(several, int) else 1)

    async def _with_logprobs(self, call: Call, body: Body) -> Reply:
        """A whole answer that was not streamed."""
        reply = await self._wire.open("/v1" + PATHS[call.operation], orjson.dumps(body), call.trace)
        if not differs(call.operation, body):
            return reply
        return Assembled(orjson.dumps(formed(await parsed(reply))))

    async def _filled(self, body: Body) -> Body:
        model = str(body["model"])
        infill = self._infills.get(model)
        if infill is None:
            infill = self._infills[model] = await Infill.learnt(self._wire, model)
        return await infill.body(self._wire, body)

    async def tokens(self, model: str, subject: str | Sequence[object] | Body) -> Tokens:
        text = subject if isinstance(subject, str) else await self._templated(model, subject)
        told = await self._wire.ask(
            "/tokenize",
            {"content": text, "add_special": True, "parse_special": True, "model": model},
        )
        tokens = told.get("tokens") if isinstance(told, dict) else None
        if not isinstance(tokens, list):
            raise strange()
        return tokens

    async def _templated(self, model: str, subject: Sequence[object] | Body) -> str:
        chat = subject if isinstance(subject, Mapping) else {"messages": subject}
        told = await self._wire.ask("/apply-template", {**chat, "model": model})
        prompt = told.get("prompt") if isinstance(told, dict) else None
        if not isinstance(prompt, str):
            raise strange()
        return prompt

    async def aclose(self) -> None:
        await self._wire.aclose()


def _routed(entry: Mapping[str, Any]) -> ServedModel:
    """A model of a server in router mode."""
    status, meta = entry.get("status"), entry.get("meta")
    value = status.get("value") if isinstance(status, dict) else None
    context = number(meta.get("n_ctx")) if isinstance(meta, dict) else None
    model = served(entry)
    return replace(model, context_length=context, created=0, loaded=value not in UNLOADED)


def _revision(entry: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Changes with the file: its path, and what the server tells of its content."""
    meta = entry.get("meta")
    facts = meta if isinstance(meta, dict) else {}
    parts = [told.get("model_path"), *(facts.get(k) for k in ("n_params", "size", "ftype"))]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def open_backend(url: str) -> LlamaCppEngine:
    return LlamaCppEngine(Wire(Origin.of(url, port=PORT)))


def allowed(body: Body) -> Body:
    """A choice among tools as llama.cpp takes it: those tools alone, and whether one must be."""
    choice = body.get("tool_choice")
    if not isinstance(choice, Mapping):
        return body
    several = choice.get("allowed_tools")
    chosen = several.get("tools") if isinstance(several, Mapping) else [choice]
    names = [_name(tool) for tool in chosen] if isinstance(chosen, list) else []
    tools = [tool for tool in _listed(body.get("tools")) if _name(tool) in names]
    if not tools:
        raise InvalidRequest(NO_SUCH_TOOL, fields={"tool_choice": "must name one of tools"})
    mode = several.get("mode", "auto") if isinstance(several, Mapping) else "required"
    return {**body, "tools": tools, "tool_choice": mode}


def _name(tool: object) -> object:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function.get("name") if isinstance(function, Mapping) else None


def _listed(tools: object) -> list[Mapping[str, Any]]:
    return tools if isinstance(tools, list) else []
