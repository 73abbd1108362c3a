"""The llama.cpp servers of the supervised host: `llama-cpp:///path/models.sock`.

The host loads and unloads models; here each loaded one is a llama.cpp server of its own.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from ai_stack.channel import Channel
from ai_stack.engines import Reply
from ai_stack.engines.listing import number, operations
from ai_stack.engines.llama_cpp import LlamaCppEngine
from ai_stack.engines.origin import Origin
from ai_stack.engines.wire import Wire, strange
from ai_stack.errors import (
    AIStackError,
    EngineFailed,
    EngineUnavailable,
    ModelNotFound,
    NotFound,
    SettingsError,
    StackError,
    Unavailable,
)
from ai_stack.models.inference import GENERATION, Body, Call, Operation, ServedModel, Tokens

T = TypeVar("T")

LIST_TIMEOUT_S, PROBE_TIMEOUT_S = 10.0, 3.0
LOAD_TIMEOUT_S = 24 * 3600.0  # a first load may download; the caller has deadlines of its own
FRESH_S = 10.0
KINDS: Mapping[object, frozenset[Operation]] = {
    "generation": GENERATION,
    "embedding": frozenset({"embedding"}),
    "rerank": frozenset({"rerank"}),
}


class HostedEngine:
    """Has a model loaded when it is asked for, and tells the host that it is used."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._servers: dict[str, LlamaCppEngine] = {}
        self._urls: dict[str, tuple[str, float]] = {}

    @property
    def name(self) -> str:
        return "llama-cpp:"

    async def models(self) -> Sequence[ServedModel]:
        """All that are on the shelf; those that are loaded with what their server tells.

        What is still being downloaded is not there yet.
        """
        told = await self._asked("list", LIST_TIMEOUT_S)
        listed = told.get("models")
        if not isinstance(listed, list):
            raise strange()
        self._forget({entry.get("url") for entry in listed})
        here = [entry for entry in listed if entry.get("file")]
        return await asyncio.gather(*(self._described(entry) for entry in here))

    async def _described(self, entry: Mapping[str, Any]) -> ServedModel:
        model = _shelved(entry)
        if not model.loaded:
            return model
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                (own,) = await self._server(entry["url"]).models()
        except (AIStackError, TimeoutError, ValueError):
            return replace(model, loaded=False)
        return replace(
            model,
            context_length=own.context_length or model.context_length,
            slots=own.slots or model.slots,
            operations=own.operations,
        )

    async def send(self, call: Call) -> Reply:
        return await self._by_server(call.model, lambda server: server.send(call))

    async def tokens(self, model: str, subject: str | Sequence[object] | Body) -> Tokens:
        return await self._by_server(model, lambda server: server.tokens(model, subject))

    async def _by_server(self, model: str, ask: Callable[[LlamaCppEngine], Awaitable[T]]) -> T:
        """Ask a model's server; one that has ended meanwhile is looked up again."""
        server, fresh = await self._serving(model)
        try:
            return await ask(server)
        except EngineUnavailable:
            if fresh:
                raise
        self._urls.pop(model, None)
        server, _ = await self._serving(model)
        return await ask(server)

    async def _serving(self, model: str) -> tuple[LlamaCppEngine, bool]:
        """The server of a model, and whether the host has just named it.

        It is asked anew every FRESH_S seconds, by which it learns that the model is used.
        """
        now = asyncio.get_running_loop().time()
        url, since = self._urls.get(model, ("", 0.0))
        if url and now - since < FRESH_S:
            return self._server(url), False
        told = await self._asked("serve", LOAD_TIMEOUT_S, model=model)
        url = told.get("url", "")
        self._urls[model] = url, asyncio.get_running_loop().time()
        return self._server(url), True

    def _server(self, url: str) -> LlamaCppEngine:
        server = self._servers.get(url)
        if server is None:
            server = self._servers[url] = LlamaCppEngine(Wire(Origin.of(url)))
        return server

    def _forget(self, listed: set[str | None]) -> None:
        """Drop the servers that are no more; their connections have ended with them."""
        oldest = asyncio.get_running_loop().time() - FRESH_S
        self._urls = {
            model: (url, since)
            for model, (url, since) in self._urls.items()
            if url in listed or since > oldest
        }
        kept = listed | {url for url, _ in self._urls.values()}
        self._servers = {url: one for url, one in self._servers.items() if url in kept}

    async def _asked(self, method: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        try:
            answer, _ = await self._channel.call(method, timeout_s=timeout_s, **arguments)
        except Unavailable as error:
            raise EngineUnavailable(error.message) from error
        except NotFound as error:
            raise ModelNotFound(error.message) from error
        except AIStackError as error:
            if type(error) in (AIStackError, StackError):
                raise EngineFailed(error.message) from error
            raise
        return answer

    async def aclose(self) -> None:
        for server in self._servers.values():
            await server.aclose()
        await self._channel.aclose()


def _shelved(entry: Mapping[str, Any]) -> ServedModel:
    """A model as the host lists it; the same file is the same revision, loaded or not."""
    content = f"{entry.get('revision')} {entry.get('file')} {entry.get('size_bytes')}"
    return ServedModel(
        id=entry["id"],
        context_length=number(entry.get("context_length")),
        slots=number(entry.get("slots")),
        operations=KINDS.get(entry.get("kind"), operations(entry["id"])),
        created=number(entry.get("created")) or 0,
        revision=hashlib.sha256(content.encode()).hexdigest()[:16],
        loaded=entry.get("state") == "ready" and bool(entry.get("url")),
    )


def open_backend(url: str) -> HostedEngine:
    path = urlsplit(url).path
    if not path:
        raise SettingsError("AI_STACK_ENGINES: llama-cpp: needs the supervisor, or a host.")
    return HostedEngine(Channel(Path(unquote(path))))
