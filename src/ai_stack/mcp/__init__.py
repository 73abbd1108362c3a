"""The MCP face: a tool parses, calls one service method and formats; it decides nothing.

https://modelcontextprotocol.io, on the official SDK, which serves the protocol's two eras (the
handshake up to 2025-11-25, requests that stand for themselves from 2026-07-28) from one endpoint.
The SDK is loaded by the first request, since it costs half a second and 26 MB.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from ai_stack.models.principals import Principal

PATH = "/mcp"
Resolver = Callable[[Scope], Awaitable[Principal]]
Weigh = Callable[[bytes], Awaitable[None]]  # refuses a body that would unfold


class Served(Protocol):
    """What answers below `/mcp`."""

    def running(self) -> AbstractAsyncContextManager[None]: ...
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


Make = Callable[[Resolver, Weigh], Served]


class Mcp:
    """The ASGI app below `/mcp`, made by its first request; `caller` resolves who asks."""

    def __init__(self, caller: Resolver, weigh: Weigh, make: Make | None = None) -> None:
        self._caller, self._weigh, self._make = caller, weigh, make or create_face
        self._stop = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Around all requests."""
        try:
            yield
        finally:
            self._stop.set()
            if self._life is not None:
                await self._life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._life is None:
            self._served = asyncio.get_running_loop().create_future()
            self._life = asyncio.create_task(self._live(self._served))
        await (await asyncio.shield(self._served))(scope, receive, send)

    async def _live(self, made: asyncio.Future[Served]) -> None:
        try:
            served = await asyncio.to_thread(self._make, self._caller, self._weigh)
        except Exception as error:  # noqa: BLE001 (whoever asked is to see it)
            made.set_exception(error)
            return
        async with served.running():
            made.set_result(served)
            await self._stop.wait()


class Mount:
    """Wraps the app; what lies at or below `/mcp` is the face's."""

    def __init__(self, app: ASGIApp, face: ASGIApp) -> None:
        self.app, self.face = app, face

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and f"{scope['path']}/".startswith(f"{PATH}/")
        await (self.face if ours else self.app)(scope, receive, send)


def create_face(caller: Resolver, weigh: Weigh) -> Served:
    """The face itself; loads the SDK."""
    made: Any = import_module("ai_stack.mcp.protocol").create_face(caller, weigh)
    face: Served = made
    return face
