"""What one reader of a stream sees: when the first chunk comes, how many there are, how fast."""

import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CHUNK, DONE = b"data: {", b"data: [DONE]"


@dataclass(frozen=True)
class Stream:
    """One answer as it came; `texts` are the chunks that carry some, `tokens` by its usage."""

    first_ms: float
    texts: int
    tokens: int
    done: bool


class Reader:
    """One kept-alive connection; it blocks, since waking a loop would be measured too."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.closed = False  # the server has said that it closes the connection

    def ask(self, body: str) -> Stream:
        payload = body.encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        message = head.encode() + payload
        started = time.perf_counter()
        self.socket.sendall(message)
        first, received = 0.0, bytearray()
        for piece in self._pieces():
            received += piece
            if not first and CHUNK in received:
                first = time.perf_counter()
        if not received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(bytes(received[:500]))
        self.closed = b"connection: close" in received.partition(b"\r\n\r\n")[0].lower()
        chunks = _chunks(received)
        texts = sum(bool(c["choices"] and c["choices"][0]["delta"].get("content")) for c in chunks)
        tokens = sum((c.get("usage") or {}).get("completion_tokens", 0) for c in chunks)
        return Stream((first - started) * 1e3, texts, tokens, DONE in received)

    def _pieces(self) -> Iterator[bytes]:
        end = b""
        while not end.endswith(b"\r\n0\r\n\r\n"):
            piece = self.socket.recv(1 << 16)
            if not piece:
                return
            end = (end + piece)[-16:]
            yield piece

    def close(self) -> None:
        self.socket.close()


def _chunks(received: bytearray) -> list[dict[str, Any]]:
    """The events, put together first: a chunk of the transfer may have cut one in two."""
    _, _, body = bytes(received).partition(b"\r\n\r\n")
    return [json.loads(e[6:]) for e in _unchunked(body).split(b"\n\n") if e.startswith(CHUNK)]


def _unchunked(body: bytes) -> bytes:
    joined = bytearray()
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        joined += rest[:length]
        body = rest[length + 2 :]
    return bytes(joined)


def first_chunk_ms(port: int, bodies: list[str], chunks: int) -> float:
    """The median time to the first chunk at one connection; every stream is to be whole."""
    reader = Reader(port)
    streams = [reader.ask(body) for body in bodies]
    reader.close()
    if any(s.texts != chunks or not s.done for s in streams):
        raise RuntimeError(f"a stream of {chunks} chunks is not whole: {streams[0]}")
    return statistics.median(s.first_ms for s in streams)


def tokens_per_second(port: int, bodies: list[str]) -> float:
    """Over as many streams at once as there are bodies; tokens as their usage tells."""
    readers = [Reader(port) for _ in bodies]
    found: list[Stream] = []

    def read(reader: Reader, body: str) -> None:
        found.append(reader.ask(body))

    threads = [
        threading.Thread(target=read, args=pair) for pair in zip(readers, bodies, strict=True)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    for reader in readers:
        reader.close()
    if len(found) < len(bodies) or not all(s.done for s in found):
        raise RuntimeError("a stream was not whole")
    return sum(s.tokens for s in found) / seconds
