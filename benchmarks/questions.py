"""What a search by text takes beyond the embedding of its text, one client, nothing cached.

    python benchmarks/questions.py [--passages 100000] [--count 300]

The stack holds passages with given vectors, as in documents.py. Three things take turns, a few
questions each, so that they see the same machine: the embedder's own process embeds the text, the
gateway searches by meaning, the gateway searches by meaning and words. No question comes twice.
Beside the time that a client waits stands the processor time of all of the stack's processes,
which other work on the machine changes less.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil

from ai_stack.embedders.onnx import OnnxEmbedder
from documents import Corpus, ingest
from load import Client, request
from rivals import Stack, folder, processor_s

ASKED = "where in the manual is it said how thing number {n} of kind {kind} is set up and kept"
WARM, TURN = 20, 10

Ask = Callable[[str], Awaitable[object]]


@dataclass
class Way:
    """One way to ask, and what it took: milliseconds a question, and processor time in all."""

    ask: Ask
    waited_ms: list[float] = field(default_factory=list)
    processor_ms: float = 0.0

    async def turn(self, name: str, first: int) -> None:
        for n in range(first, first + TURN):
            began = time.perf_counter()
            await self.ask(ASKED.format(n=n, kind=name))
            self.waited_ms.append((time.perf_counter() - began) * 1000)


async def alternate(ways: dict[str, Way], count: int, supervisor: psutil.Process) -> None:
    for name, way in ways.items():
        for n in range(WARM):
            await way.ask(ASKED.format(n=-n, kind=name))
    for first in range(1, count, TURN):
        for name, way in ways.items():
            before = processor_s(supervisor)
            await way.turn(name, first)
            way.processor_ms += (processor_s(supervisor) - before) * 1000


async def measure(stack: Stack, count: int) -> dict[str, object]:
    socket = Path(stack.runtime()) / "embedder.sock"
    embedder = await OnnxEmbedder.open(socket, "all-MiniLM-L6-v2")
    client = await Client.open(stack.port)

    async def search(text: str, mode: str) -> None:
        body = {"query": text, "mode": mode, "limit": 10}
        answer = orjson.loads(await client.ask(request("POST", "/search/semantic", body)))
        assert len(answer["results"]) == 10
        assert not answer["cached"]

    ways = {
        "embedding": Way(lambda text: embedder.embed([text], "query")),
        "semantic": Way(lambda text: search(text, "semantic")),
        "hybrid": Way(lambda text: search(text, "hybrid")),
    }
    await alternate(ways, count, stack.supervisor())
    client.close()
    await embedder.aclose()
    return {name: summary(way, ways["embedding"]) for name, way in ways.items()}


def summary(way: Way, embedding: Way) -> dict[str, object]:
    """Quartiles of the wait and the processor time a question; beyond the embedding's too."""
    quartiles = statistics.quantiles(way.waited_ms, n=4)
    used, least = way.processor_ms / len(way.waited_ms), min(way.waited_ms)
    own = embedding.processor_ms / len(embedding.waited_ms)
    return {
        "waited_ms_quartiles": [round(q, 2) for q in quartiles],
        "processor_ms": round(used, 2),
        "p50_beyond_embedding_ms": round(quartiles[1] - statistics.median(embedding.waited_ms), 2),
        "least_beyond_embedding_ms": round(least - min(embedding.waited_ms), 2),
        "processor_beyond_embedding_ms": round(used - own, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--count", type=int, default=300, help="questions of each way")
    parser.add_argument("--vectors", default="qdrant-edge:", help="backend of the stack")
    parser.add_argument("--settle", type=float, default=30, help="seconds for the graph")
    given = parser.parse_args()
    with folder() as home:
        stack = Stack(home, given.vectors)
        stack.start()
        try:
            ingest(stack, Corpus(given.passages), 4)
            time.sleep(given.settle)
            print(json.dumps(asyncio.run(measure(stack, given.count)), indent=2))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
