"""Rows 1 and 2: PostgreSQL is killed under writers that repeat whatever they do not know."""

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from reliability.clients import FAILURES, Client
from reliability.grounds import GATEWAY, Ground
from reliability.verdicts import Measured, Row, Trial

WRITERS = 200
CUT = 0.02  # share of requests whose client dies before the answer
SERVING_S = 2.0
GIVE_UP_S = 60.0


@dataclass
class Storm:
    """What the writers know. Contents are distinct and name their writer and its turn."""

    name: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    serving_s: list[float] = field(default_factory=list)
    first_ok_s: float = 0.0  # since PostgreSQL accepts again
    pids: list[int] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)


async def storm(trial: Trial) -> Storm:
    """All rounds: load, kill, recovery, and at the end every unknown outcome made known."""
    dice = random.Random(trial.seed)
    found = Storm(f"storm-{trial.seed}-{time.time_ns()}")
    writers = [
        asyncio.create_task(_write(trial, found, n, random.Random(f"{trial.seed} {n}")))
        for n in range(WRITERS)
    ]
    found.pids.append(await trial.ground.pid(GATEWAY))
    for _ in range(trial.size(1, 3)):
        await _flowing(found, len(found.acknowledged) + trial.size(150, 1000))
        await asyncio.sleep(dice.uniform(0, 1))
        await _kill_once(trial, found)
        found.pids.append(await trial.ground.pid(GATEWAY))
    await asyncio.sleep(1)
    found.stop.set()
    await asyncio.gather(*writers)
    return found


async def _flowing(storm: Storm, count: int) -> None:
    """Until this many are acknowledged, or a minute has passed."""
    deadline = time.monotonic() + 60
    while len(storm.acknowledged) < count and time.monotonic() < deadline:
        await asyncio.sleep(0.01)


async def _write(trial: Trial, storm: Storm, number: int, dice: random.Random) -> None:
    client, turn = trial.ground.client(), 0
    while not storm.stop.is_set():
        turn += 1
        await _write_one(trial, storm, client, f"{storm.name} {number} {turn}", dice)
    client.close()


async def _write_one(
    trial: Trial, storm: Storm, client: Client, content: str, dice: random.Random
) -> None:
    """Repeat under the same key until the outcome is known."""
    storm.wanted.add(content)
    body = orjson.dumps({"content": content, "metadata": {"storm": storm.name}})
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        try:
            reply = await client.request(
                *("POST", "/documents?wait=false", body),
                {"Idempotency-Key": content},
                cut=dice.random() < CUT,
            )
        except FAILURES as error:
            storm.statuses[type(error).__name__] += 1
        else:
            storm.statuses[str(reply.status)] += 1
            if reply.ok:
                storm.first_ok_s = min(storm.first_ok_s, time.monotonic())
                storm.acknowledged[reply.json()["id"]] = content
                trial.log.write("acknowledged", id=reply.json()["id"], content=content)
                return
        storm.repeated += 1
        await asyncio.sleep(0.05)


async def _kill_once(trial: Trial, storm: Storm) -> None:
    ground = trial.ground
    killed = await ground.kill("postgres")
    trial.log.write("killed", acknowledged=len(storm.acknowledged))
    reads = asyncio.create_task(_first_search(ground))
    accepted = await ground.postgres_accepts()
    storm.first_ok_s = float("inf")  # the old backends are gone: what comes now is of the new
    while storm.first_ok_s == float("inf") and time.monotonic() < accepted + GIVE_UP_S:
        await asyncio.sleep(0.005)
    await asyncio.wait([reads], timeout=GIVE_UP_S)
    read_s = reads.result() - accepted if reads.done() else GIVE_UP_S
    reads.cancel()
    write_s = storm.first_ok_s - accepted
    storm.serving_s.append(max(read_s, write_s, 0.0))
    trial.log.write("serving", down_s=accepted - killed, write_s=write_s, read_s=read_s)


async def _first_search(ground: Ground) -> float:
    """The moment of the first good answer to a search, asked beside the writers."""
    client = ground.client(timeout_s=30)
    search = {"query": "storm", "mode": "keyword"}
    try:
        while True:
            with suppress(*FAILURES):
                if (await client.request("POST", "/search/semantic", search)).ok:
                    return time.monotonic()
            await asyncio.sleep(0.02)
    finally:
        client.close()


async def stored(ground: Ground, filter: dict[str, object]) -> list[dict[str, str]]:
    """All documents that a filter names, as GET /documents pages them."""
    client, found, cursor = ground.client(), [], ""
    query = f"/documents?limit=1000&filter={orjson.dumps(filter).decode().replace(' ', '')}"
    quoted = query.replace('"', "%22").replace("{", "%7B").replace("}", "%7D")
    while True:
        reply = await client.request("GET", quoted + (f"&cursor={cursor}" if cursor else ""))
        assert reply.ok, reply
        page = reply.json()
        found += page["items"]
        if (cursor := page["next_cursor"]) is None:
            client.close()
            return found


async def measure(trial: Trial) -> Measured:
    """Row 1: the acknowledged set against the table."""
    found = await storm(trial)
    present = {d["id"]: d["content"] for d in await stored(trial.ground, {"storm": found.name})}
    lost = [i for i, content in found.acknowledged.items() if present.get(i) != content]
    slowest = max(found.serving_s)
    faults = [f"{len(lost)} acknowledged documents are lost"] if lost else []
    if slowest > SERVING_S:
        faults.append(f"it served again {slowest:.2f} s after PostgreSQL accepted")
    if len(set(found.pids)) > 1:
        faults.append(f"the gateway's pid changed: {found.pids}")
    trial.log.write("table", lost=lost, statuses=dict(found.statuses))
    figures = {
        "acknowledged": len(found.acknowledged),
        "lost": len(lost),
        "kills": len(found.serving_s),
        "serving after s": f"{slowest:.2f}",
        "same pid": len(set(found.pids)) == 1,
        "answers": _brief(found.statuses),
    }
    return Measured(figures, tuple(faults))


async def measure_repeats(trial: Trial) -> Measured:
    """Row 2: every content there once, however often it was sent."""
    found = await storm(trial)
    times = Counter(d["content"] for d in await stored(trial.ground, {"storm": found.name}))
    twice = [content for content, n in times.items() if n > 1]
    missing = [content for content in found.wanted if content not in times]
    trial.log.write("table", twice=twice, missing=missing, statuses=dict(found.statuses))
    faults = [f"{len(twice)} documents are there more than once"] if twice else []
    faults += [f"{len(missing)} documents are missing"] if missing else []
    figures = {
        "written": len(found.wanted),
        "repeated": found.repeated,
        "duplicate": len(twice),
        "missing": len(missing),
        "kills": len(found.serving_s),
        "answers": _brief(found.statuses),
    }
    return Measured(figures, tuple(faults))


def _brief(statuses: Counter[str]) -> str:
    return "/".join(f"{name}:{n}" for name, n in statuses.most_common(5))


ROWS = (
    Row(
        1,
        "kill -9 PostgreSQL under 200 writers",
        "0 acknowledged lost; serving ≤ 2 s after PostgreSQL accepts; same gateway pid",
        measure,
        ("early-acknowledgement",),
    ),
    Row(
        2,
        "every unknown outcome retried with Idempotency-Key",
        "0 duplicate, 0 missing",
        measure_repeats,
        ("forgotten-key",),
        calm=True,
    ),
)
