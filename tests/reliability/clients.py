"""A small HTTP client for load: one keep-alive connection, no retries, nothing hidden."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

FAILURES = (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    closes: bool = False  # the server has said that it closes the connection

    @property
    def ok(self) -> bool:
        return self.status < 300

    def json(self) -> Any:
        return orjson.loads(self.body)


class Client:
    """One connection, opened when needed; a failure closes it and is raised, one of FAILURES."""

    def __init__(self, port: int, *, timeout_s: float = 60.0) -> None:
        self.port, self.timeout_s = port, timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        cut: bool = False,
    ) -> Reply:
        """One exchange. `cut` hangs up once the request is sent, as a client that dies does."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._exchange(encoded(method, path, body, headers or {}), cut)
        except BaseException:
            self.close()
            raise

    async def _exchange(self, request: bytes, cut: bool) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        if cut:
            await asyncio.sleep(0.002)
            raise ConnectionAbortedError
        reply = await _read(reader)
        if reply.closes:
            self.close()
        return reply

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def encoded(method: str, path: str, body: object, headers: Mapping[str, str]) -> bytes:
    data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json"] if data and "Content-Type" not in headers else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def _read(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
    closes = b"\r\nconnection: close" in head
    return Reply(int(head.split(b" ", 2)[1]), await reader.readexactly(length), closes)
