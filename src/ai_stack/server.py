"""The gateway: one ASGI app over one stack."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from socket import socket

import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp

from ai_stack import __version__
from ai_stack.connections import Connection
from ai_stack.leaving import Server
from ai_stack.mcp import Mcp, Mount
from ai_stack.models.seat import Seat
from ai_stack.rest import create_router, problems, search
from ai_stack.rest.forwarded import Forwarded
from ai_stack.rest.front import Front
from ai_stack.rest.gate import Gate, Identified
from ai_stack.rest.openai.routes import HOT
from ai_stack.rest.requests import caller_of
from ai_stack.rest.weight import check_weight
from ai_stack.services.siblings import Siblings
from ai_stack.settings import Settings
from ai_stack.settings.exposure import check_exposure, is_wide
from ai_stack.stack import Stack, open_stack
from ai_stack.telemetry.requests import Requests
from ai_stack.tls import Certificate, open_certificate

FIXED = frozenset({*HOT, search.HOT.path})  # paths that no router matches
HSTS = ("Strict-Transport-Security", "max-age=31536000")


def create_app(settings: Settings, stack: Stack | None = None, face: Mcp | None = None) -> ASGIApp:
    """The app over a stack; without one it opens its own when it is started."""
    face = face or Mcp(caller_of, check_weight)
    api = Front(Identified(create_api(stack or settings, face)), HOT)
    app = Mount(api, Identified(face))
    gate = Gate(
        app,
        hosts=settings.hosts_known,
        max_bytes=settings.request_max_bytes,
        public=settings.public_url,
    )
    if not settings.trusted_proxies:
        return gate
    return Forwarded(gate, settings.proxies, settings.forwarded_header)


def create_api(source: Stack | Settings, face: Mcp | None = None) -> FastAPI:
    """What FastAPI serves and describes, over a stack or over the one that it opens.

    A face beside it lives as long as it does.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        async with AsyncExitStack() as exits:
            opened = source
            if not isinstance(opened, Stack):
                opened = await exits.enter_async_context(open_stack(opened))
            await exits.enter_async_context(opened.identity.running())
            if face is not None:
                await exits.enter_async_context(face.running())
            yield {"stack": opened, "meter": _meter(opened)}

    app = FastAPI(title="AI Stack", version=__version__, lifespan=lifespan, openapi_url=None)
    problems.install(app)
    app.router.routes.insert(0, search.HOT)
    app.include_router(create_router())
    return app


def _meter(stack: Stack) -> Requests:
    told, logged = stack.telemetry, stack.settings.access_log
    return Requests(told.metrics, told.slow, fixed=FIXED, logged=logged, traced=told.tracing)


def serve(settings: Settings, seat: Seat | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished within `shutdown_grace_s`.

    With a seat it is one of several processes, and SIGUSR1 says that another has taken its place.
    Raises SettingsError for a URL that is missing, and for an address that is reached by others
    without authentication or TLS; StackError for a database that is unfit.
    """
    check_exposure(settings, has_credentials=None)  # which the database knows
    if seat is not None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes; its parent decides
    uvloop.run(_serve(settings, seat))


async def _serve(settings: Settings, seat: Seat | None) -> None:
    async with AsyncExitStack() as exits:
        certificate = open_certificate(settings)
        stack = await exits.enter_async_context(open_stack(settings))
        if is_wide(settings):
            await _insist(settings, stack)
        if certificate is not None:
            told = stack.telemetry.metrics.process.certificate.set
            await exits.enter_async_context(certificate.followed(told))
            probes = {**stack.health.probes, "tls": certificate.probe}
            stack = replace(stack, health=replace(stack.health, probes=probes))
        app = create_app(settings, stack)
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        config, leaving = _config(settings, app, certificate), stack.health.leaving
        if seat is None:
            await Server(config, leaving, settings.drain_s).serve()
            return
        await exits.enter_async_context(stack.scrape.beside(Siblings(seat.folder, seat.number)))
        server = Server(config, leaving, settings.drain_s, partial(os.write, seat.ready, b"."))
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, server.retire)
        await server.serve([socket(fileno=number) for number in seat.listeners])


async def _insist(settings: Settings, stack: Stack) -> None:
    """Have every request say who it is from now on, though the last key be taken away."""
    await stack.identity.renew()
    check_exposure(settings, has_credentials=stack.identity.is_required)
    stack.identity.mode = "required"


def _config(settings: Settings, app: ASGIApp, certificate: Certificate | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        log_level=settings.log_level,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
        server_header=False,
        proxy_headers=False,
        headers=[] if certificate is None else [HSTS],
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
    )
