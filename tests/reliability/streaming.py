"""A client of streamed answers that sees every event as it comes, and how the stream ended."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from reliability.clients import FAILURES, encoded

Ending = Literal["done", "error", "refused", "cut", "hung", "odd"]
CHAT = "/v1/chat/completions"
ENDED = b"data: [DONE]"


@dataclass
class Stream:
    """One answer. `ending` is how it came to its end; `events` are the payloads of its events.

    done: [DONE] came last. error: an error event came last. refused: a status other than 200 and
    OpenAI's error object. cut: the connection ended before the answer did. odd: anything else.
    """

    status: int = 0
    events: list[bytes] = field(default_factory=list)
    body: bytes = b""
    ending: Ending = "hung"

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [orjson.loads(event) for event in self.events if event.startswith(b"{")]

    @property
    def engine(self) -> str:
        """Which stand-in answered, by its signature."""
        return next((c["system_fingerprint"] for c in self.chunks if "choices" in c), "")


class Caller:
    """One request on a connection of its own."""

    def __init__(
        self,
        port: int,
        body: Mapping[str, Any],
        *,
        path: str = CHAT,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.port, self.timeout_s = port, timeout_s
        self.request = encoded("POST", path, body, headers or {})
        self.stream = Stream()
        self.begun = asyncio.Event()
        self.connected = False

    async def ask(self) -> Stream:
        """The whole answer, whatever came of it."""
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._ask()
        except TimeoutError:
            self.stream.ending = "hung"
        except FAILURES:
            self.stream.ending = "cut"
        finally:
            self.begun.set()
        return self.stream

    async def _ask(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=64 << 20)
        self.connected = True
        try:
            writer.write(self.request)
            await writer.drain()
            await self._read(reader)
        finally:
            writer.close()
        self.stream.ending = _ending(self.stream)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        self.stream.status = int(head.split(b" ", 2)[1])
        rest = b""
        async for piece in _pieces(reader, head):
            self.stream.body += piece
            *events, rest = (rest + piece).split(b"\n\n")
            found = [e.removeprefix(b"data: ") for e in events if e.startswith(b"data: ")]
            self.stream.events += found
            if found:
                self.begun.set()


async def _pieces(reader: asyncio.StreamReader, head: bytes) -> AsyncIterator[bytes]:
    if b"transfer-encoding: chunked" not in head:
        length = head.split(b"content-length:")[1].split(b"\r\n")[0]
        yield await reader.readexactly(int(length))
        return
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


def _ending(stream: Stream) -> Ending:
    if stream.status != 200:
        return "refused" if _is_error(stream.body) else "odd"
    if not stream.events or any(not _is_json(e) for e in stream.events[:-1]):
        return "odd"
    last = stream.events[-1]
    if last == b"[DONE]":
        return "odd" if any(map(_is_error, stream.events[:-1])) else "done"
    return "error" if _is_error(last) else "odd"


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_error(text: bytes) -> bool:
    """An error as OpenAI's clients know it."""
    if not _is_json(text):
        return False
    told = orjson.loads(text)
    error = told.get("error") if isinstance(told, dict) else None
    return isinstance(error, dict) and bool(error.get("message")) and "code" in error


def chat(orders: Mapping[str, Any] | str, *, stream: bool = True, **fields: Any) -> dict[str, Any]:
    """A request to the stand-in with orders for it; sampled, so that no cache answers."""
    content = orders if isinstance(orders, str) else orjson.dumps(orders).decode()
    message = {"role": "user", "content": content}
    return {"model": "stand-in", "stream": stream, "messages": [message], **fields}
