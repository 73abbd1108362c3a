"""Streams as no engine should send them, and a few that only look odd: each with its right end."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

End = Literal["done", "error", "either"]
HANG_S = 60.0
MIB = 1 << 20


@dataclass(frozen=True)
class Wire:
    """One connection of the stand-in, from HTTP's words down to its bytes."""

    writer: asyncio.StreamWriter

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def whole(self, status: int, body: bytes, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} .\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        await self.raw(head.encode() + body)

    async def head(self, kind: str = "text/event-stream") -> None:
        head = f"HTTP/1.1 200 .\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        await self.raw(head.encode())

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    def reset(self) -> None:
        """Break the connection off with RST."""
        linger = struct.pack("ii", 1, 0)
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Step: TypeAlias = Callable[[Wire], Awaitable[bool]]


@dataclass(frozen=True)
class Shape:
    """What is sent, step by step, and how the client's stream is to end."""

    end: End
    steps: tuple[Step, ...]


def sse(*pieces: bytes) -> Step:
    """A head and these pieces, each a chunk of the transfer."""

    async def step(wire: Wire) -> bool:
        await wire.head()
        for piece in pieces:
            await wire.chunk(piece)
            await asyncio.sleep(0.01 if len(pieces) < 100 else 0)
        return True

    return step


async def finish(wire: Wire) -> bool:
    await wire.end()
    return True


async def close(wire: Wire) -> bool:
    wire.writer.close()
    return False


async def reset(wire: Wire) -> bool:
    wire.reset()
    return False


async def hang(wire: Wire) -> bool:
    await asyncio.sleep(HANG_S)
    return False


def raw(data: bytes) -> Step:
    async def step(wire: Wire) -> bool:
        await wire.raw(data)
        return True

    return step


def whole(status: int, body: bytes, kind: str) -> Step:
    async def step(wire: Wire) -> bool:
        await wire.whole(status, body, kind)
        return True

    return step


def _chunk(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    named = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_767_225_600}
    told = json.dumps({**named, "model": "stand-in", "choices": [choice]}, ensure_ascii=False)
    return told.encode()


def _event(text: str, finish_reason: str | None = None) -> bytes:
    return b"data: " + _chunk(text, finish_reason) + b"\n\n"


ONE, TWO, LAST = _event("one "), _event("two "), _event("three", "stop")
DONE = b"data: [DONE]\n\n"
GOOD = ONE + TWO + LAST + DONE
UMLAUT = _event("größer")
SPLIT = UMLAUT.index("ö".encode()) + 1
SPREAD = b"data: " + _chunk("one ").replace(b', "choices"', b',\ndata: "choices"') + b"\n\n"

SHAPES: dict[str, Shape] = {
    # Streams that are none, or not to their end.
    "no [DONE], then a clean end": Shape("error", (sse(ONE, TWO, LAST), finish)),
    "closed in the middle": Shape("error", (sse(ONE, TWO), close)),
    "reset in the middle of an event": Shape("error", (sse(ONE, TWO[:40]), reset)),
    "half an event, then [DONE]": Shape("error", (sse(ONE, TWO[:40] + b"\n\n" + DONE), finish)),
    "an event that is not JSON": Shape("error", (sse(ONE, b"data: {oops}\n\n", DONE), finish)),
    "data: a list": Shape("error", (sse(ONE, b'data: ["a"]\n\n', DONE), finish)),
    "an object without choices": Shape("error", (sse(ONE, b'data: {"x": 1}\n\n', DONE), finish)),
    "choices of the wrong type": Shape(
        "error", (sse(ONE, b'data: {"choices": [1, "a"]}\n\n', DONE), finish)
    ),
    "an error event, then [DONE]": Shape(
        "error", (sse(ONE, b'data: {"error": {"message": "CUDA at /opt/x"}}\n\n', DONE), finish)
    ),
    "bytes that are no UTF-8": Shape(
        "error", (sse(ONE, TWO.replace(b"two", b"\xff\xfe\x80"), DONE), finish)
    ),
    "zero bytes between events": Shape("error", (sse(ONE, b"\0\0\0\0\n\n", DONE), finish)),
    "an event of 20 MB without end": Shape(
        "error", (sse(ONE, b"data: {", *([b"x" * MIB] * 20)), finish)
    ),
    "lists within lists, 200,000 deep": Shape(
        "error", (sse(ONE, b"data: " + b"[" * 200_000 + b"\n\n", DONE), finish)
    ),
    "a page of HTML with status 200": Shape(
        "error", (whole(200, b"<html>502 Bad Gateway</html>", "text/html"),)
    ),
    "an answer in one piece": Shape("error", (whole(200, b'{"choices": []}', "application/json"),)),
    "no byte at all": Shape("error", (close,)),
    "a head, and nothing": Shape("error", (sse(), finish)),
    "a wrong size of a chunk": Shape(
        "error", (sse(ONE, TWO), raw(b"zz\r\nwhat\r\n0\r\n\r\n"), close)
    ),
    "shorter than its Content-Length": Shape(
        "error",
        (
            raw(
                b"HTTP/1.1 200 .\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n"
            ),
            raw(ONE + TWO),
            close,
        ),
    ),
    "silence in the middle": Shape("error", (sse(ONE, TWO), hang)),
    "silence from the start": Shape("error", (hang,)),
    "what is no HTTP": Shape("error", (raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), close)),
    # Odd, and clean by the standard of server-sent events, or a known engine's way.
    "data: null, as llama.cpp says": Shape("done", (sse(b"data: null\n\n", GOOD), finish)),
    "more after [DONE]": Shape("done", (sse(GOOD, TWO), finish)),
    "open after [DONE]": Shape("done", (sse(GOOD), hang)),
    "reset after [DONE]": Shape("done", (sse(GOOD), reset)),
    "lines that end with CRLF": Shape("done", (sse(GOOD.replace(b"\n", b"\r\n")), finish)),
    "CRLF cut in two": Shape(
        "done", (sse(*(GOOD.replace(b"\n", b"\r\n").replace(b"\r", b"\r|").split(b"|"))), finish)
    ),
    "no space after the colon": Shape("done", (sse(GOOD.replace(b"data: ", b"data:")), finish)),
    "comments and keep-alives": Shape(
        "done", (sse(b": ping\n\n", ONE, b":\n\n", LAST, DONE), finish)
    ),
    "other fields of the standard": Shape(
        "done", (sse(b"event: message\nid: 7\nretry: 10\n" + ONE, LAST, DONE), finish)
    ),
    "data over two lines": Shape("done", (sse(SPREAD, LAST, DONE), finish)),
    "a letter cut in two": Shape(
        "done", (sse(UMLAUT[:SPLIT], UMLAUT[SPLIT:] + LAST + DONE), finish)
    ),
    "byte by byte": Shape("done", (sse(*(GOOD[n : n + 1] for n in range(len(GOOD)))), finish)),
    "a byte order mark first": Shape("done", (sse(b"\xef\xbb\xbf" + GOOD), finish)),
    "[DONE] without its blank line": Shape("either", (sse(GOOD[:-1]), finish)),
}
