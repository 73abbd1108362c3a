"""A gateway and a worker in this process, over the servers of a test's settings."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from ai_stack import worker as background
from ai_stack.connections import Connection
from ai_stack.mcp import Mcp
from ai_stack.server import create_app
from ai_stack.settings import Settings
from ai_stack.stack import Stack


@asynccontextmanager
async def gateway(
    settings: Settings, face: Mcp | None = None, port: int = 0
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that listens on a free port, or on this one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        config = uvicorn.Config(
            create_app(settings, face=face),
            http=Connection,
            log_level="warning",
            lifespan="on",
            ws="none",
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))
        while not server.started:
            assert not task.done(), task.result()
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def worker(stack: Stack) -> AsyncIterator[None]:
    """What the worker does, on a stack that is open."""
    stop = asyncio.Event()
    task = asyncio.create_task(background._until(stop, background._duties(stack)))
    try:
        yield
    finally:
        stop.set()
        await task
