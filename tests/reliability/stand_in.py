"""An inference engine whose every byte is chosen: a child process that rows start and kill.

    python tests/reliability/stand_in.py --port N [--model NAME] [--chunks 40] [--delay-ms 20]
                                         [--counted]

What it does with a request is told by the request itself: where the last message is a JSON object,
its members are the orders. `{"chunks", "delay_ms"}` shape a stream, `hold_ms` is how long it thinks
before the first byte, `shape` names a malformed stream of shapes.py. Every answer carries the port
as its `system_fingerprint`, so that one sees which of several engines answered. A stand-in that is
`counted` numbers its answers and repeats the canaries that a request shows: no two are equal.
"""

import argparse
import asyncio
import itertools
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from reliability.shapes import SHAPES, Step, Wire  # noqa: E402

JSON, STREAM = "application/json", "text/event-stream"
CREATED = 1_767_225_600
CANARIES = re.compile(r"canary-[0-9]+")


@dataclass(frozen=True)
class StandIn:
    """One engine: its name as it signs, the model that it serves, and its usual pace."""

    port: int
    model: str
    chunks: int
    delay_ms: float
    count: "Iterator[int] | None" = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(Wire(writer), reader):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, wire: Wire, reader: asyncio.StreamReader) -> bool:
        """Answer one request; whether another may follow on this connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if head.startswith("GET"):
            await self._get(wire, head.split(" ")[1])
            return True
        length = next(
            int(line.split(":")[1])
            for line in head.splitlines()
            if line.lower().startswith("content-length:")
        )
        body = json.loads(await reader.readexactly(length))
        return await self._post(wire, body)

    async def _get(self, wire: Wire, path: str) -> None:
        if not path.endswith("/models"):
            await wire.whole(404, b"{}")
            return
        model = {"id": self.model, "object": "model", "created": CREATED, "owned_by": "stand-in"}
        listed = {"object": "list", "data": [{**model, "context_length": 8192}]}
        await wire.whole(200, json.dumps(listed).encode())

    async def _post(self, wire: Wire, body: Mapping[str, Any]) -> bool:
        orders = _orders(body)
        if hold_ms := orders.get("hold_ms"):
            await asyncio.sleep(hold_ms / 1000)
        if shape := orders.get("shape"):
            return await self._misshapen(wire, SHAPES[shape].steps)
        if not body.get("stream"):
            await wire.whole(200, json.dumps(self._answer(body)).encode())
            return True
        await wire.head(STREAM)
        for event in self._events(orders):
            await wire.chunk(event)
            await asyncio.sleep(orders.get("delay_ms", self.delay_ms) / 1000)
        await wire.end()
        return True

    async def _misshapen(self, wire: Wire, steps: tuple[Step, ...]) -> bool:
        for step in steps:
            if not await step(wire):
                return False
        return True

    def _events(self, orders: Mapping[str, Any]) -> Iterator[bytes]:
        count = orders.get("chunks", self.chunks)
        for number in range(count):
            ending = "stop" if number == count - 1 else None
            choice = {"index": 0, "delta": {"content": f"word{number} "}, "finish_reason": ending}
            yield self._event({"choices": [choice]})
        usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
        yield self._event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"

    def _event(self, told: Mapping[str, Any]) -> bytes:
        return (
            b"data: " + json.dumps(self._signed("chat.completion.chunk", told)).encode() + b"\n\n"
        )

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        text = "All is well."
        if self.count is not None:
            shown = sorted({*CANARIES.findall(json.dumps(body))})
            text = f"answer-{next(self.count)} {' '.join(shown)}"
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        return self._signed("chat.completion", {"choices": [choice], "usage": usage})

    def _signed(self, kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
        named = {"id": "chatcmpl-1", "object": kind, "created": CREATED, "model": self.model}
        return {**named, "system_fingerprint": str(self.port), **told}


def _orders(body: Mapping[str, Any]) -> dict[str, Any]:
    """The last message as an object, empty where it is ordinary text."""
    try:
        found = json.loads(body["messages"][-1]["content"])
    except (KeyError, IndexError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


async def _run(given: argparse.Namespace) -> None:
    count = itertools.count(1) if given.counted else None
    made = StandIn(given.port, given.model, given.chunks, given.delay_ms, count)
    server = await asyncio.start_server(made.serve, "127.0.0.1", given.port, backlog=512)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="stand-in")
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--counted", action="store_true")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
