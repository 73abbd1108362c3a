"""The gateway: one ASGI app over one stack."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ai_stack import __version__
from ai_stack.models.departure import Departure
from ai_stack.rest import create_router, problems, search
from ai_stack.rest.front import Front
from ai_stack.rest.gate import Gate, Identified
from ai_stack.rest.openai.routes import HOT
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack

HEAD_BYTES = 64 << 10


class Joined:
    """A transport that sends the head of an answer together with what follows it at once.

    Each on its own costs a system call and wakes the client twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        if self._held:
            self._transport.write(self._held + data)
            self._held = b""
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def _flush(self) -> None:
        if self._held:
            self._transport.write(self._held)
            self._held = b""

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """One connection; tells its requests when it is lost, and bounds what uvicorn keeps of one.

    A request line, headers or trailers without end would else fill the memory. The bytes are
    counted from one sign of a request's progress to the next.
    """

    head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.departure = Departure()
        super().connection_made(transport)
        self.transport = Joined(transport, self.loop)  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.departure.happen()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["departure"] = self.departure

    def data_received(self, data: bytes) -> None:
        self.head_bytes += len(data)
        super().data_received(data)
        if self.head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of this request is too large.")

    def on_headers_complete(self) -> None:
        self.head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.head_bytes = 0
        super().on_message_complete()


def create_app(settings: Settings, stack: Stack | None = None) -> ASGIApp:
    """The app over a stack; without one it opens its own when it is started."""
    app = Front(Identified(create_api(stack or settings)), HOT)
    return Gate(app, hosts=[settings.host], max_bytes=settings.request_max_bytes)


def create_api(source: Stack | Settings) -> FastAPI:
    """What FastAPI serves and describes, over a stack or over the one that it opens."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        if isinstance(source, Stack):
            yield {"stack": source}
            return
        async with open_stack(source) as opened:
            yield {"stack": opened}

    app = FastAPI(
        title="AI Stack", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    problems.install(app)
    app.router.routes.insert(0, search.HOT)
    app.include_router(create_router())
    return app


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished within `shutdown_grace_s`.

    Raises SettingsError for a URL that is missing, StackError for a database that is unfit.
    """
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    async with open_stack(settings) as stack:
        app = create_app(settings, stack)
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        await uvicorn.Server(_config(settings, app)).serve()


def _config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws="none",
        access_log=False,
        log_level=settings.log_level,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
        server_header=False,
        proxy_headers=False,
    )
