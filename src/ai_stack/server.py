"""The gateway: one ASGI app over one stack."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from ai_stack import __version__
from ai_stack.rest import create_router, problems
from ai_stack.rest.gate import Gate
from ai_stack.settings import Settings
from ai_stack.stack import open_stack

GRACE_S = 30


def create_app(settings: Settings) -> FastAPI:
    """The app; it opens its stack when it is started and closes it when it is stopped."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        async with open_stack(settings) as stack:
            gc.freeze()
            yield {"stack": stack}

    app = FastAPI(title="AI Stack", version=__version__, lifespan=lifespan)
    problems.install(app)
    app.include_router(create_router())
    app.add_middleware(Gate, hosts=[settings.host], max_bytes=settings.request_max_bytes)
    return app


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished within GRACE_S."""
    gc.set_threshold(50_000, 50, 50)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level=settings.log_level,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        proxy_headers=False,
    )
