"""Row 6: each dependency stands still (SIGSTOP), as a machine that hangs does."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from reliability.clients import FAILURES
from reliability.engines import Engine, Gateway, before, engines
from reliability.grounds import until
from reliability.streaming import Caller, chat
from reliability.verdicts import Measured, Row, Trial

UNAFFECTED_S, RECOVERED_S, PATIENCE_S, PAUSE_S = 3.0, 20.0, 90.0, 0.05
INFERENCE_S, SLACK_S = 3.0, 1.5
FULL_S = 30.0
EMBEDDER_MODEL = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Dependency:
    """What stands still, for how long in a short run, and within what an answer then is due."""

    name: str
    short_s: float
    deadline_s: float


DEPENDENCIES = (
    Dependency("postgres", 18, 15),
    Dependency("redis", 6, 3),
    Dependency("engine", 7, INFERENCE_S),
    Dependency("embedder", 9, 7),
    Dependency("vectors", 9, 7),
)


@dataclass(frozen=True)
class Route:
    """One kind of request, and what it cannot do without; `softly`: it degrades without it."""

    name: str
    path: str
    body: Mapping[str, Any] | None = None
    needs: tuple[str, ...] = ()
    softly: tuple[str, ...] = ()

    def uses(self, dependency: str) -> bool:
        return dependency in (*self.needs, *self.softly)


def _search(mode: str) -> dict[str, Any]:
    return {"query": "lantern {turn}", "mode": mode}


EMBED = {"model": EMBEDDER_MODEL, "input": "lantern {turn}"}
CHAT = chat({"chunks": 3, "delay_ms": 1})
ROUTES = (
    Route("live", "/health/live"),
    Route("models", "/v1/models"),
    Route("chat", "/v1/chat/completions", {**CHAT, "stream": False}, ("engine",)),
    Route("cached chat", "/v1/chat/completions", {**CHAT, "temperature": 0}, ("engine",)),
    Route("stream", "/v1/chat/completions", CHAT, ("engine",)),
    Route(
        "embed",
        "/v1/embeddings",
        {"model": EMBEDDER_MODEL, "input": "lantern {turn}"},
        ("embedder",),
    ),
    Route("list", "/documents?limit=3", None, ("postgres",)),
    Route("add", "/documents?wait=false", {"content": "lantern {turn}"}, ("postgres",)),
    Route("keyword", "/search/semantic", _search("keyword"), ("postgres",)),
    Route(
        "semantic", "/search/semantic", _search("semantic"), ("postgres",), ("embedder", "vectors")
    ),
    Route("health", "/health", None, ("postgres",), ("redis", "embedder", "vectors", "engine")),
)


@dataclass
class Seen:
    """The answers of one route while something stood still."""

    statuses: Counter[int] = field(default_factory=Counter)
    longest_s: float = 0.0

    def add(self, status: int, took_s: float) -> None:
        self.statuses[status] += 1
        self.longest_s = max(self.longest_s, took_s)

    @property
    def good(self) -> bool:
        return bool(self.statuses) and all(200 <= status < 300 for status in self.statuses)


async def measure(trial: Trial) -> Measured:
    faults: list[str] = []
    figures: dict[str, object] = {}
    with engines(1) as fleet:
        limits = {"AI_STACK_INFERENCE_TIMEOUT_S": str(INFERENCE_S)}
        async with before(trial, fleet, **limits) as gateway:
            faults += await _soundly(trial, gateway, "at first")
            for dependency in DEPENDENCIES:
                seconds = FULL_S if trial.full else dependency.short_s
                seen = await _stand(trial, gateway, fleet[0], dependency, seconds)
                faults += _judged(dependency, seen)
                faults += await _soundly(trial, gateway, f"after {dependency.name} went on")
                longest_s = max(found.longest_s for found in seen.values())
                figures[f"without {dependency.name} ≤"] = f"{longest_s:.1f} s"
    return Measured(figures, tuple(faults))


async def _stand(
    trial: Trial, gateway: Gateway, engine: Engine, dependency: Dependency, seconds: float
) -> dict[str, Seen]:
    """Every route, asked again and again while it stands still, and until all have answered."""
    seen = {route.name: Seen() for route in ROUTES}
    with standing(await pids_of(trial, engine, dependency.name)):
        over = time.monotonic() + seconds
        lanes = [asyncio.create_task(_lane(gateway, r, seen[r.name], over)) for r in ROUTES]
        await asyncio.sleep(seconds)
    await asyncio.gather(*lanes)
    for name, found in seen.items():
        told = {"statuses": found.statuses, "longest_s": round(found.longest_s, 3)}
        trial.log.write("route", standing=dependency.name, route=name, **told)
    return seen


async def pids_of(trial: Trial, engine: Engine, name: str) -> list[int]:
    if name == "engine":
        assert engine.process is not None
        return [engine.process.pid]
    leader = psutil.Process(await trial.ground.pid(name))
    return [leader.pid, *(child.pid for child in leader.children(recursive=True))]


@contextmanager
def standing(pids: list[int]) -> Iterator[None]:
    """Processes that neither run nor end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def _lane(gateway: Gateway, route: Route, seen: Seen, over: float) -> None:
    turn = 0
    while time.monotonic() < over:
        turn += 1
        started = time.monotonic()
        seen.add(await _ask(gateway, route, turn), time.monotonic() - started)
        await asyncio.sleep(PAUSE_S)


async def _ask(gateway: Gateway, route: Route, turn: int) -> int:
    """The status; 0 without an answer, 502 for a stream that ended in an error."""
    body = numbered(route.body, f"{turn} {time.monotonic_ns()}")
    if body is not None and body.get("stream"):
        stream = await Caller(gateway.port, body, timeout_s=PATIENCE_S).ask()
        return {"done": 200, "error": 502, "refused": stream.status}.get(stream.ending, 0)
    client = gateway.client(timeout_s=PATIENCE_S)
    try:
        return (await client.request("POST" if body else "GET", route.path, body)).status
    except FAILURES:
        return 0
    finally:
        client.close()


def numbered(body: Mapping[str, Any] | None, turn: str) -> dict[str, Any] | None:
    """Each request's text is its own, so that no cache answers it."""
    if body is None:
        return None
    texts = {name: v.replace("{turn}", turn) for name, v in body.items() if isinstance(v, str)}
    own = {"seed": time.monotonic_ns() % 2**31} if "messages" in body else {}
    return {**body, **texts, **own}


def _judged(dependency: Dependency, seen: Mapping[str, Seen]) -> list[str]:
    faults = []
    for route in ROUTES:
        found, name = seen[route.name], f"{dependency.name} standing, {route.name}"
        limit_s = UNAFFECTED_S
        if route.uses(dependency.name):
            limit_s = dependency.deadline_s + SLACK_S
        if found.longest_s > limit_s:
            faults.append(f"{name}: an answer took {found.longest_s:.1f} s of {limit_s:g}")
        if dependency.name not in route.needs and not found.good:
            faults.append(f"{name}: {dict(found.statuses)}")
        if strange := set(found.statuses) - {200, 201, 202, 429, 503, 504}:
            faults.append(f"{name}: answered {sorted(strange)}")
    return faults


async def _soundly(trial: Trial, gateway: Gateway, when: str) -> list[str]:
    """Routes that do not answer 2xx soon when nothing stands still."""
    faults = []
    for route in ROUTES:

        async def works(route: Route = route) -> bool:
            return 200 <= await _ask(gateway, route, 0) < 300

        try:
            await until(works, RECOVERED_S, 0.2)
        except TimeoutError:
            status = await _ask(gateway, route, 0)
            faults.append(f"{route.name} {when}: {status}")
            trial.log.write("unsound", route=route.name, when=when, status=status)
    return faults


ROWS = (
    Row(
        6,
        "SIGSTOP each dependency",
        "every request answers within its deadline; routes that do not need it: 2xx within 3 s",
        measure,
        ("endless-inference", "patient-cache"),
    ),
)
