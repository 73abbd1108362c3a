"""Row 4: both Redis are killed, again and again, under callers with limits and under intruders."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson

from reliability.callers import Caller, Court, court, operator
from reliability.clients import FAILURES, Client
from reliability.grounds import until
from reliability.verdicts import Measured, Row, Trial

KILLED = ("redis", "redis-kept")
CALLERS, PAUSE_S = 8, 0.02
OUTAGE_S, ADDED_MS = 2.5, 300.0
BUSY_LIMIT, TINY_LIMIT = 6000, 10  # by the minute, and by the hour
INTRUDERS = (
    "nobody",
    "a key that nobody has",
    "a revoked key",
    "an expired key",
    "another project's key",
    "a key of a suspended user",
)


@dataclass
class Load:
    """What the callers and the intruders saw; durations in milliseconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    before_ms: list[float] = field(default_factory=list)
    without_ms: list[float] = field(default_factory=list)
    intrusions: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    tiny: Counter[int] = field(default_factory=Counter)
    down: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, status: int, took_ms: float, *, down: bool) -> None:
        self.statuses[status] += 1
        (self.without_ms if down or self.down else self.before_ms).append(took_ms)


async def measure(trial: Trial) -> Measured:
    load, dice = Load(), random.Random(trial.seed)
    async with court(trial) as made:
        keys = [await _key(made, requests_per_minute=BUSY_LIMIT) for _ in range(3)]
        tiny = await _key(made, requests_per_hour=TINY_LIMIT)
        hour = await _use_up(made, tiny)
        async with _under_load(made, load, keys, tiny):
            await asyncio.sleep(1.5)
            load.before_ms.clear()  # what is done for the first time takes longer
            await asyncio.sleep(3)
            for _ in range(trial.size(2, 8)):
                await _outage(trial, load)
                await asyncio.sleep(dice.uniform(1.0, 2.0))
    trial.log.write("seen", statuses=load.statuses, intrusions=load.intrusions, tiny=load.tiny)
    return _judged(load, same_hour=hour == time.time() // 3600)


async def _key(made: Court, **limits: int) -> Caller:
    """A key with limits, of the project that is judged."""
    body = {"name": "limited", "scopes": ["read", "write"], "limits": limits}
    maker = operator(made.ground)
    asks = Caller(maker.name, maker.token, scopes=maker.scopes, project=str(made.project_id))
    answer = await made.json(asks, "POST", "/keys", body)
    assert answer.status == 201, answer.body
    return Caller("a key with limits", answer.json()["key"])


async def _use_up(made: Court, tiny: Caller) -> float:
    """Nothing is left of a limit before Redis goes; the hour in which that was."""
    for _ in range(TINY_LIMIT + 1):
        await made.json(tiny, "GET", "/documents?limit=1")
    await asyncio.sleep(1.5)  # what is counted is on Redis's disk within a second
    return time.time() // 3600


@asynccontextmanager
async def _under_load(
    made: Court, load: Load, keys: list[Caller], tiny: Caller
) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_call(made, load, keys[n % 3], n)) for n in range(CALLERS)]
    tasks += [asyncio.create_task(_intrude(made, load, made.callers[n])) for n in INTRUDERS]
    tasks.append(asyncio.create_task(_exceed(made, load, tiny)))
    try:
        yield
    finally:
        load.stop.set()
        await asyncio.gather(*tasks)


async def _call(made: Court, load: Load, caller: Caller, number: int) -> None:
    """Documents written, listed and found by words, at a pace that leaves the machine air."""
    client, turn = made.ground.client(timeout_s=20), number
    while not load.stop.is_set():
        turn += 1
        down, started = load.down, time.monotonic()
        status = await _ask(client, caller, turn)
        load.add(status, (time.monotonic() - started) * 1000, down=down)
        await asyncio.sleep(PAUSE_S)
    client.close()


async def _ask(client: Client, caller: Caller, turn: int) -> int:
    kinds = (
        ("POST", "/documents?wait=false", {"content": f"lantern {turn} {time.monotonic_ns()}"}),
        ("GET", "/documents?limit=3", None),
        ("POST", "/search/semantic", {"query": f"lantern {turn}", "mode": "keyword"}),
    )
    method, path, body = kinds[turn % len(kinds)]
    try:
        return (await client.request(method, path, body, dict(caller.headers()))).status
    except FAILURES:
        return 0


async def _intrude(made: Court, load: Load, caller: Caller) -> None:
    turn = 0
    while not load.stop.is_set():
        turn += 1
        method, body = ("GET", None) if turn % 2 else ("POST", {"content": "an intruder was here"})
        answer = await made.json(caller, method, "/documents", body)
        if answer.status == caller.status:
            load.refusals += 1
        else:
            load.intrusions[f"{caller.name}: {answer.status}"] += 1
        await asyncio.sleep(PAUSE_S)


async def _exceed(made: Court, load: Load, tiny: Caller) -> None:
    while not load.stop.is_set():
        load.tiny[(await made.json(tiny, "GET", "/documents?limit=1")).status] += 1
        await asyncio.sleep(PAUSE_S)


async def _outage(trial: Trial, load: Load) -> None:
    """Both are killed whenever they run, for a while; then they may come back."""
    load.down, over = True, time.monotonic() + OUTAGE_S
    await asyncio.gather(*(_keep_down(trial, name, over) for name in KILLED))

    async def back() -> bool:
        return all([(await trial.ground.part(name)).state == "running" for name in KILLED])

    trial.log.write("back", seconds=await until(back, 60))
    await asyncio.sleep(0.5)
    load.down = False


async def _keep_down(trial: Trial, name: str, over: float) -> None:
    while time.monotonic() < over:
        with suppress(TimeoutError, ProcessLookupError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + OUTAGE_S):
                await trial.ground.kill(name)
                trial.log.write("killed", part=name)
        await asyncio.sleep(0.1)


def _judged(load: Load, *, same_hour: bool) -> Measured:
    before, without = _p99(load.before_ms), _p99(load.without_ms)
    bad = {status: n for status, n in load.statuses.items() if not 200 <= status < 300}
    passed = load.tiny[200] if same_hour else 0
    faults = [f"intruders were not refused as they should be: {orjson.dumps(load.intrusions)!r}"]
    faults = faults if load.intrusions else []
    faults += [f"answers on documents other than 2xx: {bad}"] if bad else []
    if without > before + ADDED_MS:
        faults.append(f"p99 went from {before:.0f} ms to {without:.0f} ms")
    faults += [f"{passed} requests passed a limit that was used up"] if passed else []
    faults += [] if len(load.without_ms) > 50 and load.refusals > 50 else ["too little was asked"]
    figures = {
        "requests": sum(load.statuses.values()),
        "without Redis": len(load.without_ms),
        "not 2xx": sum(bad.values()),
        "intruders refused": load.refusals,
        "let in": sum(load.intrusions.values()),
        "past a limit": passed,
        "p99 ms": f"{before:.0f} → {without:.0f}",
    }
    return Measured(figures, tuple(faults))


def _p99(durations_ms: list[float]) -> float:
    ordered = sorted(durations_ms)
    return ordered[int(len(ordered) * 0.99)] if ordered else 0.0


ROWS = (
    Row(
        4,
        "kill -9 Redis under callers with limits and intruders",
        "0 let in who should not be; 0 past a limit; 0 5xx on documents; p99 ≤ +300 ms",
        measure,
        ("open-without-redis", "limits-need-redis", "stubborn-limits"),
    ),
)
