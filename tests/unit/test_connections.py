"""One connection of the gateway: what it writes, in how many pieces, and when it closes."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from ai_stack import connections
from ai_stack.connections import HEAD_BYTES, Connection

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Wire(asyncio.Transport):
    """Keeps what is written, each piece as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


def connected(app: ASGIApp, keep_alive_s: int = 5) -> tuple[Connection, Wire]:
    config = uvicorn.Config(
        cast(Any, app), interface="asgi3", timeout_keep_alive=keep_alive_s, log_level="critical"
    )
    wire, made = Wire(), Connection(config, ServerState(), {})
    made.connection_made(wire)
    return made, wire


def answering(*parts: bytes, status: int = 200, **headers: str) -> ASGIApp:
    """An app that answers with these parts."""
    told = [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": told})
        for number, part in enumerate(parts, 1):
            more = number < len(parts)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    return app


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not met():
            await asyncio.sleep(0.001)


async def answer(app: ASGIApp, asked: bytes = ASK) -> Wire:
    made, wire = connected(app)
    made.data_received(asked)
    await until(lambda: not made.tasks)
    return wire


async def test_a_head_goes_out_with_its_body() -> None:
    wire = await answer(answering(b"{}", content_length="2", X_Other="one"))
    assert wire.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-other: one\r\n\r\n{}"]
    assert not wire.closed


async def test_a_head_does_not_wait_for_a_body_that_comes_late() -> None:
    release = asyncio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await release.wait()
        await send({"type": "http.response.body", "body": b"late"})

    made, wire = connected(late)
    made.data_received(ASK)
    await until(lambda: wire.written)
    assert wire.written == [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]
    release.set()
    await until(lambda: not made.tasks)
    assert wire.written[1:] == [b"4\r\nlate\r\n0\r\n\r\n"]


async def test_a_stream_is_framed_and_nothing_follows_an_answer_without_body() -> None:
    wire = await answer(answering(b"one", b"", b"two"))
    assert b"".join(wire.written).endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    wire = await answer(answering(b"", status=204))
    assert b"".join(wire.written) == b"HTTP/1.1 204 No Content\r\n\r\n"
    wire = await answer(answering(b"four", content_length="4"), ASK.replace(b"GET", b"HEAD"))
    assert b"".join(wire.written) == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


@pytest.mark.parametrize(
    "app",
    [
        answering(b"", X="one\r\nX-Two: two"),
        answering(b"", **cast(Any, {"X: one\r\nX-Two": "two"})),
        answering(),
    ],
)
async def test_what_cannot_be_sent_is_an_error(app: ASGIApp) -> None:
    wire = await answer(app)
    written = b"".join(wire.written)
    assert b"X-Two" not in written
    assert written.startswith(b"HTTP/1.1 500 ") or wire.closed


@pytest.mark.parametrize("told", ["1", "3"])
async def test_a_body_of_another_length_than_told_ends_the_connection(told: str) -> None:
    wire = await answer(answering(b"{}", content_length=told))
    assert wire.closed


async def test_a_client_that_wants_it_closed_gets_it_closed() -> None:
    for asked in (ASK.replace(b"1.1", b"1.0"), ASK[:-2] + b"Connection: close\r\n\r\n"):
        wire = await answer(answering(b"{}", content_length="2"), asked)
        assert b"connection: close\r\n" in wire.written[0]
        assert wire.closed
    wire = await answer(answering(b"{}", content_length="2", connection="close"))
    assert wire.written[0].count(b"connection: close\r\n") == 1
    assert wire.closed


async def test_requests_that_came_at_once_are_answered_in_their_order() -> None:
    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.01 if scope["path"] == "/a b" else 0)
        await answering(scope["path"].encode() + scope["query_string"])(scope, receive, send)

    made, wire = connected(named)
    made.data_received(ASK.replace(b" / ", b" /a%20b?c=d ") + ASK.replace(b" / ", b" /second "))
    await until(lambda: len(wire.written) == 2)
    assert b"/a bc=d" in wire.written[0]
    assert b"/second" in wire.written[1]


async def test_a_body_comes_whole_and_a_client_that_waits_for_leave_gets_it() -> None:
    seen: list[bytes] = []

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            seen.append(message["body"])
            more = message["more_body"]
        await answering(b"")(scope, receive, send)

    made, wire = connected(reading)
    head = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"
    )
    made.data_received(head)
    await until(lambda: wire.written)
    assert wire.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    for part in (b"one", b"two"):
        made.data_received(part)
        await asyncio.sleep(0.01)
    await until(lambda: not made.tasks)
    assert b"".join(seen) == b"onetwo"


async def test_a_connection_that_asks_nothing_more_is_closed() -> None:
    made, wire = connected(answering(b"{}", content_length="2"), keep_alive_s=cast(Any, 0.05))
    for _ in range(3):
        made.data_received(ASK)
        await asyncio.sleep(0.03)
        assert not wire.closed
    await until(lambda: wire.closed)
    made, wire = connected(answering(b"{}", content_length="2"), keep_alive_s=cast(Any, 0.05))
    made.data_received(ASK)
    await until(lambda: wire.written)
    await asyncio.sleep(0.03)
    made.data_received(ASK[:20])  # the next one has begun, which gives it its own time
    await asyncio.sleep(0.03)
    assert not wire.closed
    made.data_received(ASK[20:])
    await until(lambda: len(wire.written) == 2)
    await until(lambda: wire.closed)


@pytest.mark.parametrize("before", [b"", ASK])
@pytest.mark.parametrize("asked", [b"", b"\r\n", b"G", ASK[:20], ASK[:-2]])
async def test_a_head_that_does_not_end_is_given_up(before: bytes, asked: bytes) -> None:
    made, wire = connected(answering(b"{}", content_length="2"), keep_alive_s=cast(Any, 0.05))
    if before:
        made.data_received(before)
        await until(lambda: wire.written)
    if asked:
        made.data_received(asked)
    for _ in range(40):
        await asyncio.sleep(0.01)
        if not wire.closed and asked.startswith(b"GET"):
            made.data_received(b"a")  # a byte now and then is no progress
    assert wire.closed
    assert len(wire.written) == bool(before)


async def test_a_body_that_comes_after_its_answer_does_not_keep_a_connection() -> None:
    made, wire = connected(answering(b"{}", content_length="2"), keep_alive_s=cast(Any, 0.05))
    made.data_received(ASK[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(40):
        await asyncio.sleep(0.01)
        if not wire.closed:
            made.data_received(b"1\r\nx\r\n")
    assert wire.closed
    assert len(wire.written) == 1


async def test_an_answer_that_lasts_keeps_its_connection() -> None:
    release = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        await answering(b"{}", content_length="2")(scope, receive, send)

    made, wire = connected(slow, keep_alive_s=cast(Any, 0.02))
    release.set()
    made.data_received(ASK)
    await until(lambda: wire.written)
    release.clear()
    made.data_received(ASK)
    await asyncio.sleep(0.06)
    assert not wire.closed
    release.set()
    await until(lambda: wire.closed)
    assert len(wire.written) == 2


async def test_a_client_that_leaves_is_told_to_its_request() -> None:
    left = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["departure"].add(left.set)
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    made, wire = connected(waiting)
    made.data_received(ASK)
    await asyncio.sleep(0)
    made.connection_lost(None)
    await until(lambda: not made.tasks)
    assert left.is_set()
    assert wire.written == []


async def test_a_head_without_end_is_refused() -> None:
    made, wire = connected(answering(b""))
    made.data_received(b"GET / HTTP/1.1\r\n")
    for _ in range(HEAD_BYTES // 1000 + 2):
        if not wire.closed:
            made.data_received(b"X: " + b"y" * 1000 + b"\r\n")
    assert wire.closed
    assert wire.written[0].startswith(b"HTTP/1.1 400 ")


async def taking(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that takes a body, and tells when that is given up."""
    try:
        while (await receive()).get("more_body"):
            continue
        status = 200
    except HTTPException as error:
        status = error.status_code
    await answering(b"", status=status, content_length="0")(scope, receive, send)


@pytest.mark.parametrize("pieces", [[], [b"x"], [b"x"] * 100], ids=["none", "one", "a trickle"])
async def test_a_body_that_does_not_come_is_given_up(
    pieces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENT_S", 0.1)
    made, wire = connected(taking)
    made.data_received(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\n")
    for piece in pieces:
        if not wire.written:
            made.data_received(piece)
            await asyncio.sleep(0.01)
    await until(lambda: wire.written)
    assert wire.written[0].startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in wire.written[0]
    assert wire.closed


async def test_a_body_that_comes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT_S", 0.1)
    made, wire = connected(taking)
    made.data_received(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n")
    for _ in range(10):
        await asyncio.sleep(0.03)
        made.data_received(b"x" * 400)
    await until(lambda: wire.written)
    assert wire.written[0].startswith(b"HTTP/1.1 200 ")


async def test_what_watches_its_body_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["streamed"] = True
        await taking(scope, receive, send)

    monkeypatch.setattr(connections, "SILENT_S", 0.02)
    made, wire = connected(streaming)
    made.data_received(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n")
    await asyncio.sleep(0.1)
    assert not wire.written
    made.data_received(b"x")
    await until(lambda: wire.written)
    assert wire.written[0].startswith(b"HTTP/1.1 200 ")
