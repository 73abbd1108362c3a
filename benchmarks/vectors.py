"""Vector indexes beside each other: ingestion, graph, search, recall, memory, longest stall.

    python benchmarks/vectors.py --points 100000 --backends edge pgvector

Points lie around 1,000 centres, unit length, from a fixed seed; a tenth of them matches the
filter. Recall is against an exact scan of float32. Both engines are real processes.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import servers
import vectors as made
from ai_stack.database import open_database
from ai_stack.database.migrating import migrate
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.filters import parse_filter
from ai_stack.vectors import Point, VectorQuery, Vectors, open_vectors

DIMENSIONS, CENTRES, BATCH, QUERIES = 384, 1000, 100, 400
PROJECT = uuid.UUID(int=7)
TENTH = parse_filter({"group": 3})
Rows = npt.NDArray[np.float32]


@dataclass
class Subject:
    """A running index; `put` stores points in it, `pid` is the root of its processes."""

    name: str
    vectors: Vectors
    pid: int
    owner: psycopg.Connection | None = None

    async def put(self, model: EmbeddingModel, points: Sequence[Point]) -> None:
        if self.owner is not None:
            await asyncio.to_thread(made.store, self.owner, model, points)
        await self.vectors.upsert(model, points)


@dataclass
class Stalls:
    """Searches one after another beside the ingestion, and how long each took."""

    seconds: list[float] = field(default_factory=list)

    async def probe(self, subject: Subject, model: EmbeddingModel, asked: Rows) -> None:
        number = 0
        while True:
            started = time.perf_counter()
            query = VectorQuery(PROJECT, asked[number % len(asked)], 10)
            await subject.vectors.search(model, query)
            self.seconds.append(time.perf_counter() - started)
            number += 1
            await asyncio.sleep(0.02)


@asynccontextmanager
async def edge() -> AsyncIterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="vectors-") as folder:
        async with made.engine(Path(folder)) as engine, open_vectors(engine.url) as vectors:
            assert engine.process is not None
            yield Subject("edge", vectors, engine.process.pid)


@asynccontextmanager
async def pgvector() -> AsyncIterator[Subject]:
    with servers.postgres(18, "-c", "shared_buffers=256MB") as url:
        migrate(url.format(database="postgres"))
        database = await open_database(url.format(database="postgres"), connections=32)
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as owner:
            async with open_vectors("pgvector:", database=database) as vectors:
                yield Subject("pgvector", vectors, _postmaster(url), owner)
        await database.aclose()


def _postmaster(url: str) -> int:
    return int((Path(url.rpartition("=")[2]) / "data" / "postmaster.pid").read_text().split()[0])


async def measure(subject: Subject, points: Sequence[Point], rows: Rows) -> dict[str, str]:
    model, asked = made.model(DIMENSIONS), _asked(rows)
    found: dict[str, str] = {"index": subject.name}
    await subject.put(model, points[:BATCH])
    stalls = Stalls()
    probing = asyncio.create_task(stalls.probe(subject, model, asked))
    started = time.perf_counter()
    for i in range(BATCH, len(points), BATCH):
        await subject.put(model, points[i : i + BATCH])
    ingested = time.perf_counter() - started
    found["ingest points/s"] = f"{len(points) / ingested:,.0f}"
    await _settled(subject)
    found["all in graph s"] = f"{time.perf_counter() - started:.0f}"
    probing.cancel()
    found["longest search s"] = f"{max(stalls.seconds):.2f}"
    found["p50 meanwhile ms"] = f"{1000 * float(np.median(stalls.seconds)):.1f}"
    for label, tree, chosen in (
        ("plain", None, None),
        ("10 %", TENTH, np.arange(len(rows)) % 10 == 3),
    ):
        queries = [VectorQuery(PROJECT, row, 10, tree) for row in asked]
        found |= await _searched(subject, model, queries, label)
        found[f"{label} recall"] = (
            f"{await _recall(subject, model, queries, points, rows, chosen):.3f}"
        )
    found["MB"] = f"{_memory_mb(subject.pid):.0f}"
    return found


def _asked(rows: Rows) -> Rows:
    random = np.random.default_rng(1)
    near = rows[random.integers(0, len(rows), QUERIES)]
    moved = near + random.normal(size=near.shape) * 0.03
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), dtype=np.float32)


async def _settled(subject: Subject) -> None:
    """Wait until no builder works and none has begun for longer than an idle spell."""
    quiet = time.monotonic()
    while time.monotonic() - quiet < 9 and subject.name == "edge":
        if psutil.Process(subject.pid).children():
            quiet = time.monotonic()
        await asyncio.sleep(0.2)


async def _searched(
    subject: Subject, model: EmbeddingModel, queries: Sequence[VectorQuery], label: str
) -> dict[str, str]:
    seconds: list[float] = []

    async def client(mine: Sequence[VectorQuery]) -> None:
        for query in mine:
            started = time.perf_counter()
            await subject.vectors.search(model, query)
            seconds.append(time.perf_counter() - started)

    await client(queries[:100])
    seconds.clear()
    started = time.perf_counter()
    await client(queries)
    alone, p50 = len(queries) / (time.perf_counter() - started), float(np.median(seconds))
    started = time.perf_counter()
    await asyncio.gather(*(client(queries) for _ in range(16)))
    together = 16 * len(queries) / (time.perf_counter() - started)
    return {
        f"{label} p50 ms": f"{1000 * p50:.2f}",
        f"{label} q/s at 1": f"{alone:,.0f}",
        f"{label} q/s at 16": f"{together:,.0f}",
    }


async def _recall(
    subject: Subject,
    model: EmbeddingModel,
    queries: Sequence[VectorQuery],
    points: Sequence[Point],
    rows: Rows,
    chosen: npt.NDArray[np.bool_] | None,
) -> float:
    hits = 0
    for query in queries:
        scores = rows @ np.asarray(query.vector)
        if chosen is not None:
            scores[~chosen] = -2
        best = {points[i].chunk_id for i in np.argpartition(-scores, 10)[:10]}
        hits += len(best & {h.chunk_id for h in await subject.vectors.search(model, query)})
    return hits / (10 * len(queries))


def _memory_mb(pid: int) -> float:
    """Unshared memory of the process and its children, as PSS."""
    root = psutil.Process(pid)
    return sum(p.memory_full_info().pss for p in (root, *root.children(recursive=True))) / 1e6


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--backends", nargs="+", default=["edge", "pgvector"])
    given = parser.parse_args()
    rows = made.rows(given.points, DIMENSIONS, centres=CENTRES)
    metadata = [{"group": i % 10, "title": f"Page {i}", "lang": "en"} for i in range(len(rows))]
    points = made.points(rows, PROJECT, metadata, chunks=1)
    for name in given.backends:
        async with {"edge": edge, "pgvector": pgvector}[name]() as subject:
            for label, value in (await measure(subject, points, rows)).items():
                print(f"{label:22}{value}", flush=True)
        print()


if __name__ == "__main__":
    asyncio.run(main())
