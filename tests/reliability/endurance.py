"""Rows 7 and 26: many requests, with a dependency down or all well, and what is held on to.

Memory is compared from where it is warm: every pool, buffer and cache has its size by then.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from reliability.clients import FAILURES, Client
from reliability.engines import Gateway, before, engines
from reliability.grounds import answers, end, faulty
from reliability.standstill import CHAT, ROUTES, numbered, pids_of, standing
from reliability.verdicts import Measured, Row, Trial
from stacks import free_port

LANES = 16
WARM = 0.4  # of the requests
GROWTH, NOISE_MB = 0.05, 3.0  # of the warm memory; what one look differs from the next
MB_PER_10K, FEW = 1.0, 4
NOWHERE = "/tmp/ai-stack-nowhere.sock"
DOWN: dict[str, dict[str, str]] = {
    "redis": {"AI_STACK_REDIS_URL": f"unix://{NOWHERE}"},
    "embedder": {"AI_STACK_EMBEDDER_URL": f"onnx://{NOWHERE}"},
    "vectors": {"AI_STACK_VECTORS_URL": f"qdrant-edge://{NOWHERE}"},
    "engine": {"AI_STACK_ENGINES": "http://127.0.0.1:9/v1"},
    "engine unconfigured": {"AI_STACK_ENGINES": " "},
}
TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
AS_MCP = {"Accept": "application/json, text/event-stream"}


@dataclass(frozen=True)
class Asked:
    """One kind of request of the mix."""

    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None


MIX = (
    *(Asked(route.path, route.body) for route in ROUTES if not (route.body or {}).get("stream")),
    Asked("/v1/chat/completions", {**CHAT, "model": "there-is-none", "stream": False}),
    Asked("/search/semantic", {"query": "", "limit": 0}),
    Asked("/documents/there-is-none"),
    Asked("/nothing-here"),
    Asked("/mcp", TOOLS, AS_MCP),
    Asked("/v1/tokenize", {"content": "lantern {turn}"}),
)


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: resident MB, descriptors, connections."""

    resident_mb: float
    descriptors: int
    connections: int

    @classmethod
    def by(cls, pid: int) -> "Held":
        process = psutil.Process(pid)
        found = process.net_connections(kind="all")
        return cls(process.memory_info().rss / 1e6, process.num_fds(), len(found))


async def asked(gateway: Gateway, count: int) -> Counter[int]:
    """So many requests of the mix, in lanes; how many of each status, 0 for no answer."""
    numbers, statuses = itertools.count(), Counter[int]()

    async def lane() -> None:
        client = gateway.client(timeout_s=60)
        while (number := next(numbers)) < count:
            statuses[await _status(client, MIX[number % len(MIX)], number)] += 1
        client.close()

    await asyncio.gather(*(lane() for _ in range(LANES)))
    return statuses


async def _status(client: Client, one: Asked, number: int) -> int:
    body = numbered(one.body, str(number))
    method = "GET" if body is None else "POST"
    try:
        return (await client.request(method, one.path, body, one.headers)).status
    except FAILURES:
        return 0


async def endure(trial: Trial) -> Measured:
    """Row 26: memory, descriptors and connections over many requests of all kinds."""
    count = trial.size(4_000, 100_000)
    with engines(1) as fleet:
        async with before(trial, fleet) as gateway:
            warm, last, statuses = await _held(gateway, count)
    trial.log.write("endured", warm=warm, last=last, statuses=statuses)
    later = count * (1 - WARM)
    allowed_mb = MB_PER_10K * later / 10_000 + NOISE_MB
    faults = _grown(warm, last, allowed_mb)
    if statuses[0] or any(status >= 500 for status in statuses):
        faults.append(f"answers: {dict(statuses)}")
    return Measured({"requests": count, **_figures(warm, last)}, tuple(faults))


async def without(trial: Trial) -> Measured:
    """Row 7: the same with each dependency down, or not configured."""
    count, faults, figures = trial.size(800, 20_000), list[str](), dict[str, object]()
    for name, opened in _ways(trial).items():
        async with opened() as gateway:
            warm, last, statuses = await _held(gateway, count)
        trial.log.write("without", down=name, warm=warm, last=last, statuses=statuses)
        allowed_mb = max(GROWTH * warm.resident_mb, NOISE_MB)
        faults += [f"without {name}: {fault}" for fault in _grown(warm, last, allowed_mb)]
        if statuses[0] or not any(200 <= status < 300 for status in statuses):
            faults.append(f"without {name}: answers {dict(statuses)}")
        figures[f"without {name}"] = f"{last.resident_mb - warm.resident_mb:+.1f} MB"
    return Measured({"requests each": count, **figures}, tuple(faults))


async def _held(gateway: Gateway, count: int) -> tuple[Held, Held, Counter[int]]:
    """What it holds when it is warm and in the end, both once it is quiet."""
    statuses = await asked(gateway, int(count * WARM))
    await asyncio.sleep(1)
    warm = Held.by(gateway.process.pid)
    statuses += await asked(gateway, int(count * (1 - WARM)))
    await asyncio.sleep(1)
    return warm, Held.by(gateway.process.pid), statuses


def _grown(warm: Held, last: Held, allowed_mb: float) -> list[str]:
    grown_mb = last.resident_mb - warm.resident_mb
    found = (
        [f"memory grew by {grown_mb:.1f} of {allowed_mb:.1f} MB"] if grown_mb > allowed_mb else []
    )
    if last.descriptors > warm.descriptors + FEW or last.connections > warm.connections + FEW:
        found.append(f"from {warm} to {last}")
    return found


def _figures(warm: Held, last: Held) -> dict[str, object]:
    return {
        "memory": f"{warm.resident_mb:.0f} → {last.resident_mb:.0f} MB",
        "descriptors": f"{warm.descriptors} → {last.descriptors}",
        "connections": f"{warm.connections} → {last.connections}",
    }


Opened = Callable[[], Any]


def _ways(trial: Trial) -> dict[str, Opened]:
    """A gateway without each dependency; PostgreSQL stands still, since none starts without it."""
    names = ["engine"] if trial.plant else [*DOWN, "postgres"]

    def way(name: str) -> Opened:
        return lambda: _without(trial, name)

    return {name: way(name) for name in names}


@asynccontextmanager
async def _without(trial: Trial, name: str) -> AsyncIterator[Gateway]:
    if name == "postgres":
        with engines(1) as fleet:
            async with before(trial, fleet) as gateway:
                with standing(await pids_of(trial, fleet[0], name)):
                    yield gateway
        return
    with engines(1) as fleet:
        await fleet[0].listening()
        port = free_port()
        given = {"AI_STACK_PORT": str(port), "AI_STACK_ENGINES": fleet[0].url, **DOWN[name]}
        process = faulty(trial.ground, trial.plant or "none", "serve", **given)
        try:
            await answers(port, process)
            yield Gateway(trial.ground, port, process)
        finally:
            await asyncio.to_thread(end, process)


ROWS = (
    Row(
        7,
        "many requests with each dependency down, or not configured",
        "memory ≤ +5 %, descriptors flat, every request answered",
        without,
        ("hoarding",),
    ),
    Row(
        26,
        "many requests of all kinds",
        "memory ≤ 1 MB per 10k after warm-up; descriptors and connections flat",
        endure,
        ("hoarding",),
    ),
)
