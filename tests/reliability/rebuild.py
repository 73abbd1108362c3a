"""Row 25: the vector index is deleted, and made again from PostgreSQL."""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ai_stack.models.embedding import EmbeddingModel
from ai_stack.supervisor import parts
from ai_stack.vectors import open_vectors
from reliability.clients import Client
from reliability.grounds import Ground, end, faulty
from reliability.verdicts import Measured, Row, Trial

QUERIES, TOP, BATCH = 100, 10, 50
WORDS = [
    *("harbour", "lantern", "orchard", "copper", "meadow", "saddle", "thunder", "velvet"),
    *("marble", "canyon", "ember", "willow", "granite", "falcon", "glacier", "pepper"),
    *("anchor", "violin", "desert", "compass", "bakery", "tunnel", "island", "feather"),
    *("castle", "ribbon", "engine", "kettle", "prairie", "mirror", "barley", "cinema"),
]
Points = set[tuple[str, str, str]]


async def measure(trial: Trial) -> Measured:
    ground, dice = trial.ground, random.Random(trial.seed)
    name = f"rebuild-{time.time_ns()}"
    mine = await _store(ground.client(), dice, trial.size(100, 2000), name)
    queries = [" ".join(dice.sample(WORDS, 3)) for _ in range(QUERIES)]
    before, points = await _answers(ground, queries, name, -1.0), await _points(ground, mine)
    await asyncio.to_thread(_drop, ground)
    emptied = len(await _points(ground, mine))
    async with _planted(trial):
        run = await _reindex(ground)
    after, again = await _answers(ground, queries, name, -0.99), await _points(ground, mine)
    different = [q for q, a, b in zip(queries, before, after, strict=True) if a != b]
    trial.log.write("after", run=run, missing=sorted(points - again), different=different)
    faults = [f"{emptied} points were there after the index was deleted"] if emptied else []
    faults += [f"the run ended as {run['status']}"] if run["status"] != "succeeded" else []
    faults += [f"{len(points - again)} points are missing"] if points - again else []
    faults += [f"{len(again - points)} points are new"] if again - points else []
    faults += [f"{len(different)} queries have another top {TOP}"] if different else []
    figures = {
        "points": len(points),
        "back": len(points & again),
        "same top 10": f"{QUERIES - len(different)}/{QUERIES}",
    }
    return Measured(figures, tuple(faults))


async def _store(client: Client, dice: random.Random, count: int, name: str) -> set[str]:
    """The ids of new documents, all of them in the index."""
    ids: set[str] = set()
    for _ in range(0, count, BATCH):
        batch = [
            {"content": " ".join(dice.sample(WORDS, 12)), "metadata": {"rebuild": name}}
            for _ in range(BATCH)
        ]
        reply = await client.request("POST", "/documents", {"documents": batch})
        assert reply.status == 201, reply
        ids |= {d["id"] for d in reply.json()["items"]}
    client.close()
    return ids


async def _answers(ground: Ground, queries: list[str], name: str, floor: float) -> list[list[Any]]:
    """The top ten of each; a floor that nothing falls below keeps the cache from answering."""
    client, answers = ground.client(), []
    for query in queries:
        mine = {"filter": {"rebuild": name}, "limit": TOP, "min_score": floor}
        body = {"query": query, "mode": "semantic", **mine}
        answer = (await client.request("POST", "/search/semantic", body)).json()
        assert not answer["cached"], query
        assert "degraded" not in answer, answer["degraded"]
        found = [(-round(r["score"], 5), r["document"]["id"]) for r in answer["results"]]
        answers.append(sorted(found))  # equals in either order
    client.close()
    return answers


async def _points(ground: Ground, mine: set[str]) -> Points:
    """The points of these documents in the index, as (chunk, document, project)."""
    url = parts.addresses(ground.settings)["AI_STACK_VECTORS_URL"]
    found: Points = set()
    async with open_vectors(url) as vectors:
        answer, _ = await vectors.channel.call("ping")  # type: ignore[attr-defined]
        for key in answer["points"]:
            name, _, weights = key.rpartition("@")
            async for page in vectors.scan(EmbeddingModel(name, weights, 384, 256)):
                found |= {(str(c), str(d), str(p)) for c, d, p in page if str(d) in mine}
    return found


def _drop(ground: Ground) -> None:
    """Delete the engine's folder while everything is stopped."""
    ground.command("down")
    shutil.rmtree(ground.settings.data_dir / "qdrant")
    ground.command("up", "--detach")


@asynccontextmanager
async def _planted(trial: Trial) -> AsyncIterator[None]:
    """With a plant, its worker runs in the place of the stack's own, which is halted."""
    if trial.plant is None:
        yield
        return
    own = await trial.ground.pid("worker")
    os.kill(own, signal.SIGSTOP)
    worker = faulty(trial.ground, trial.plant, "worker")
    try:
        yield
    finally:
        await asyncio.to_thread(end, worker)
        os.kill(own, signal.SIGCONT)


async def _reindex(ground: Ground) -> dict[str, Any]:
    client = ground.client()
    run: dict[str, Any] = (await client.request("POST", "/index/reindex", {})).json()
    async with asyncio.timeout(300):
        while run["status"] not in ("succeeded", "failed", "cancelled"):
            await asyncio.sleep(0.1)
            run = (await client.request("GET", f"/runs/{run['id']}")).json()
    client.close()
    return run


ROWS = (
    Row(
        25,
        "drop the vector index",
        "all ids back from PostgreSQL, same top 10",
        measure,
        ("skipping-reindex",),
        calm=True,
    ),
)
