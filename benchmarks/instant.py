"""An inference engine that answers at once: the far end of every measurement of the gateway.

    python benchmarks/instant.py --port 28180 [--chunks 50] [--delay-ms 0] [--context 8192]

It speaks just enough HTTP/1.1 for proxies (Content-Length bodies, kept-alive connections) and of
OpenAI's API: GET /v1/models, POST /v1/chat/completions. Whether a request is streamed is seen by
its text, not by parsing it: an engine that costs more than the proxy would measure itself. Each
chunk of a stream is a write of its own, as real engines send them.
"""

import argparse
import asyncio
import re
from dataclasses import dataclass
from typing import cast

import orjson
import uvloop

MODEL = "instant"
CREATED = 1_767_225_600
STREAMED = re.compile(rb'"stream"\s*:\s*true')
WITH_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
USAGE = {"prompt_tokens": 60, "completion_tokens": 50, "total_tokens": 110}
SAID = "An answer of the length that a short question to a small model has. " * 2


@dataclass(frozen=True)
class Answers:
    """Everything that is ever said, made beforehand; a stream is a list of writes."""

    models: bytes
    whole: bytes
    stream: tuple[bytes, ...]
    stream_with_usage: tuple[bytes, ...]
    delay_s: float

    @classmethod
    def make(cls, chunks: int, delay_s: float, context: int) -> "Answers":
        model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "benchmark"}
        return cls(
            _whole(200, {"object": "list", "data": [{**model, "context_length": context}]}),
            _whole(200, _completion()),
            _stream(chunks, with_usage=False),
            _stream(chunks, with_usage=True),
            delay_s,
        )


def _completion() -> dict[str, object]:
    message = {"role": "assistant", "content": SAID}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_named("chat.completion"), "choices": [choice], "usage": USAGE}


def _named(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-instant", "object": kind, "created": CREATED, "model": MODEL}


def _whole(status: int, body: object) -> bytes:
    payload = orjson.dumps(body)
    head = f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(payload)}\r\n\r\n".encode() + payload


def _stream(chunks: int, *, with_usage: bool) -> tuple[bytes, ...]:
    """So many chunks with text, the last one ending it, then usage and [DONE] in one write."""
    events = [_event(_choice({"content": f"word{n} "})) for n in range(chunks - 1)]
    events.append(_event(_choice({"content": "end."}, "stop")))
    usage = _event({**_named("chat.completion.chunk"), "choices": [], "usage": USAGE})
    events.append((usage if with_usage else b"") + b"data: [DONE]\n\n")
    head = (
        b"HTTP/1.1 200 .\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    return (head + framed[0], *framed[1:-1], framed[-1] + b"0\r\n\r\n")


def _choice(delta: dict[str, str], finish: str | None = None) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_named("chat.completion.chunk"), "choices": [choice]}


def _event(body: object) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


class Connection(asyncio.Protocol):
    """One kept-alive connection; requests are answered in their order."""

    transport: asyncio.Transport

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.loop = asyncio.get_running_loop()
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.data = self.data + data if self.data else data
        while self._answer_one():
            pass

    def _answer_one(self) -> bool:
        """Take one request off the front; False when none is whole."""
        data = self.data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        if data.startswith(b"GET"):
            self.data = data[end:]
            self.transport.write(self._got(data))
            return bool(self.data)
        found = LENGTH.search(data, 0, end)
        stop = end + int(found[1]) if found else end
        if len(data) < stop:
            return False
        self.data = data[stop:]
        self._post(data[end:stop])
        return bool(self.data)

    def _got(self, request: bytes) -> bytes:
        known = request.startswith((b"GET /v1/models ", b"GET /models "))
        return self.answers.models if known else _whole(404, {"error": {"message": "unknown"}})

    def _post(self, body: bytes) -> None:
        if STREAMED.search(body) is None:
            self.transport.write(self.answers.whole)
            return
        usage = WITH_USAGE.search(body) is not None
        self._write(self.answers.stream_with_usage if usage else self.answers.stream, 0)

    def _write(self, writes: tuple[bytes, ...], at: int) -> None:
        """One chunk, and the next in the loop's next turn, or after the delay."""
        if self.transport.is_closing():
            return
        self.transport.write(writes[at])
        if at + 1 == len(writes):
            return
        if self.answers.delay_s:
            self.loop.call_later(self.answers.delay_s, self._write, writes, at + 1)
        else:
            self.loop.call_soon(self._write, writes, at + 1)


async def serve(port: int, answers: Answers) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=28180, help="where it listens, on loopback")
    parser.add_argument("--chunks", type=int, default=50, help="chunks of a streamed answer")
    parser.add_argument("--delay-ms", type=float, default=0, help="pause after each chunk")
    parser.add_argument("--context", type=int, default=8192, help="context length that it tells")
    given = parser.parse_args()
    uvloop.run(serve(given.port, Answers.make(given.chunks, given.delay_ms / 1000, given.context)))


if __name__ == "__main__":
    main()
