"""A load generator that costs little: requests made beforehand, kept-alive connections, uvloop."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import uvloop


@dataclass(frozen=True)
class Load:
    """What one run saw: requests a second, latencies in ms, and the answers of the first pass."""

    per_second: float
    p50_ms: float
    p99_ms: float
    answers: list[bytes]


def request(method: str, path: str, body: object | None = None) -> bytes:
    payload = b"" if body is None else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


class Client:
    """One kept-alive connection, asked one thing at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 26))

    async def ask(self, message: bytes) -> bytes:
        """The body of the answer; RuntimeError for one that is none."""
        status, body = await _exchange(self.reader, self.writer, message)
        if status >= 300:
            raise RuntimeError(f"{status}: {body[:300]!r}")
        return body

    def close(self) -> None:
        self.writer.close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
) -> tuple[int, bytes]:
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        return status, await _chunks(reader)
    at = lower.find(b"content-length:")
    size = int(lower[at + 15 : lower.index(b"\r\n", at)]) if at >= 0 else 0
    return status, await reader.readexactly(size)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).strip(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


async def _lane(
    port: int,
    messages: Sequence[bytes],
    todo: list[int],
    latencies: list[float],
    answers: list[bytes],
) -> None:
    client = await Client.open(port)
    while todo:
        n = todo.pop()
        started = time.perf_counter()
        body = await client.ask(messages[n % len(messages)])
        latencies.append((time.perf_counter() - started) * 1000)
        if n < len(messages):
            answers[n] = body
    client.close()


async def _run(port: int, messages: Sequence[bytes], count: int, connections: int) -> Load:
    todo = list(range(count))[::-1]
    latencies: list[float] = []
    answers = [b""] * len(messages)
    started = time.perf_counter()
    lanes = (_lane(port, messages, todo, latencies, answers) for _ in range(connections))
    await asyncio.gather(*lanes)
    seconds = time.perf_counter() - started
    latencies.sort()
    p99 = latencies[int(len(latencies) * 0.99)]
    return Load(count / seconds, statistics.median(latencies), p99, answers)


def load(port: int, messages: Sequence[bytes], *, count: int, connections: int) -> Load:
    """Send `count` requests, the messages in turn, over so many connections."""
    return uvloop.run(_run(port, messages, count, connections))
