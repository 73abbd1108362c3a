"""Several processes that are one gateway: what they are handed, where they listen, how they end."""

import asyncio
import socket
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from ai_stack.connections import Connection
from ai_stack.errors import StackError
from ai_stack.leaving import Server
from ai_stack.models.departure import Departure
from ai_stack.models.seat import Seat
from ai_stack.supervisor import crew
from stacks import free_port


def test_a_seat_is_read_as_it_was_written() -> None:
    seat = Seat(2, (5, 6), 7, Path("/run/gateway"))
    assert Seat.read(seat.text()) == seat


def test_sockets_of_one_port_are_shared_and_nobody_else_has_it() -> None:
    port = free_port()
    opened = [one for _ in range(2) for one in crew._bound("127.0.0.1", port, shared=True)]
    for one in opened:
        one.listen()
    try:
        assert {one.getsockname() for one in opened} == {("127.0.0.1", port)}
        with pytest.raises(StackError, match="Address already in use"):
            [*crew._bound("127.0.0.1", port, shared=False)]
    finally:
        for one in opened:
            one.close()


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"{}"})


async def test_one_that_retires_tells_its_clients_by_an_answer() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        answer,
        http=Connection,
        lifespan="off",
        ws="none",
        log_config=None,
        timeout_graceful_shutdown=30,
    )
    server = Server(config, Departure(), 0)
    task = asyncio.create_task(server._serve([listener.dup()]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    asked = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        writer.write(asked)
        assert b"connection: close" not in await reader.readuntil(b"{}")
        server.retire()
        await asyncio.sleep(0.5)
        assert not task.done()
        writer.write(asked)
        assert b"connection: close" in await reader.read()
        async with asyncio.timeout(3):
            await task
    finally:
        writer.close()
        listener.close()
