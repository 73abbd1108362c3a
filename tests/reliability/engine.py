"""Row 3: the vector engine is killed under writers and searches."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reliability.clients import FAILURES
from reliability.grounds import until
from reliability.verdicts import Measured, Row, Trial
from reliability.writes import stored

WRITERS, SEARCHERS = 8, 6
CONVERGED_S = 60.0
DIMENSIONS = 384
WORDS = "harbour lantern orchard copper meadow saddle thunder velvet marble canyon ember willow"


@dataclass
class Load:
    """What the writers and searchers saw; vectors by id."""

    name: str
    vectors: dict[str, list[float]] = field(default_factory=dict)
    writes: Counter[str] = field(default_factory=Counter)
    searches: Counter[str] = field(default_factory=Counter)
    down: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)


def vector(dice: np.random.Generator) -> list[float]:
    made = dice.standard_normal(DIMENSIONS)
    return [round(float(x), 5) for x in made / np.linalg.norm(made)]


async def measure(trial: Trial) -> Measured:
    load = Load(f"engine-{trial.seed}-{time.time_ns()}")
    tasks = [asyncio.create_task(_write(trial, load, n)) for n in range(WRITERS)]
    tasks += [asyncio.create_task(_search(trial, load, n)) for n in range(SEARCHERS)]
    dice = random.Random(trial.seed)
    for _ in range(trial.size(1, 5)):
        await asyncio.sleep(dice.uniform(1.0, 2.0))
        await _kill_once(trial, load)
    await asyncio.sleep(0.5)
    load.stop.set()
    stopped = time.monotonic()
    await asyncio.gather(*tasks)
    missing = await _converge(trial, load)
    return await _judged(trial, load, missing, time.monotonic() - stopped)


async def _kill_once(trial: Trial, load: Load) -> None:
    load.down = True
    before = (await trial.ground.part("vectors")).pid
    await trial.ground.kill("vectors")
    trial.log.write("killed", pid=before, stored=len(load.vectors))

    async def back() -> bool:
        found = await trial.ground.part("vectors")
        return found.state == "running" and found.pid not in (None, before)

    took_s = await until(back, 60)
    trial.log.write("back", seconds=took_s)
    load.down = False


async def _write(trial: Trial, load: Load, number: int) -> None:
    dice, client = np.random.default_rng([trial.seed, number]), trial.ground.client()
    while not load.stop.is_set():
        given = vector(dice)
        content = " ".join(dice.choice(WORDS.split(), 6))
        body = {"content": content, "vector": given, "metadata": {"load": load.name}}
        try:
            reply = await client.request("POST", "/documents", body)
        except FAILURES as error:
            load.writes[type(error).__name__] += 1
            continue
        load.writes[str(reply.status)] += 1
        if reply.ok:
            load.vectors[reply.json()["id"]] = given
    client.close()


async def _search(trial: Trial, load: Load, number: int) -> None:
    """Distinct queries, so that no cache answers."""
    dice, client = random.Random(f"{trial.seed} {number}"), trial.ground.client()
    turn = 0
    while not load.stop.is_set():
        turn += 1
        query = f"{' '.join(dice.sample(WORDS.split(), 3))} {number} {turn}"
        mode = dice.choice(("hybrid", "semantic"))
        try:
            reply = await client.request("POST", "/search/semantic", {"query": query, "mode": mode})
        except FAILURES as error:
            load.searches[type(error).__name__] += 1
            continue
        told = reply.ok and "degraded" in reply.json()
        load.searches["degraded" if told else str(reply.status)] += 1
        trial.log.write("search", status=reply.status, degraded=told, down=load.down)
    client.close()


async def _converge(trial: Trial, load: Load) -> set[str]:
    """The documents that a search by their own vector does not find, once it is all followed."""
    started, missing = time.monotonic(), set(load.vectors)
    patience_s = CONVERGED_S if trial.plant is None else CONVERGED_S / 6
    while missing and time.monotonic() - started < patience_s:
        missing = await _unfound(trial, load, missing)
    trial.log.write("converged", missing=sorted(missing))
    return missing


async def _unfound(trial: Trial, load: Load, ids: set[str]) -> set[str]:
    queue, unfound = [*sorted(ids)], set[str]()

    async def drain() -> None:
        client = trial.ground.client()
        while queue:
            id = queue.pop()
            mine = {"load": load.name}  # an earlier run of this seed had the same vectors
            body = {"vector": load.vectors[id], "limit": 1, "filter": mine}
            reply = await client.request("POST", "/search/semantic", body)
            found = [_of(r) for r in reply.json()["results"]] if reply.ok else []
            if (id, "indexed") not in found:
                unfound.add(id)
        client.close()

    await asyncio.gather(*(drain() for _ in range(4)))
    return unfound


def _of(result: dict[str, Any]) -> tuple[str, str]:
    return result["document"]["id"], result["document"]["state"]


async def _judged(trial: Trial, load: Load, missing: set[str], took_s: float) -> Measured:
    present = {d["id"] for d in await stored(trial.ground, {"load": load.name})}
    lost = set(load.vectors) - present
    bad = {n: c for n, c in (load.writes + load.searches).items() if n not in _GOOD}
    faults = [f"{len(lost)} documents are lost"] if lost else []
    faults += [f"{len(missing)} documents are not found at last"] if missing else []
    faults += [f"answers other than 2xx: {bad}"] if bad else []
    if not load.searches["degraded"]:
        faults.append("no search said that it was degraded")
    figures = {
        "written": len(load.vectors),
        "lost": len(lost),
        "unfound": len(missing),
        "converged s": f"{took_s:.1f}",
        "searches": sum(load.searches.values()),
        "degraded": load.searches["degraded"],
        "not 2xx": sum(bad.values()),
    }
    return Measured(figures, tuple(faults))


_GOOD = ("200", "201", "202", "degraded")
ROWS = (
    Row(
        3,
        "kill -9 the vector engine under writers and searches",
        "0 documents lost; index converges ≤ 60 s; search degrades to keyword, says so, no 5xx",
        measure,
        ("early-forgetting", "silent-degrading"),
    ),
)
