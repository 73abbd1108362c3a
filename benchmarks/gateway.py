"""The gateway beside nginx's proxy_pass and LiteLLM's proxy, before an engine that answers at once.

    python benchmarks/gateway.py [--litellm /path/to/bin/litellm] [--soak 100000] [--llama]

One run on two cores: the server under test alone on core 0; the load, the engine, PostgreSQL and
Redis on core 1. wrk and nginx come from Debian (`apt-get install wrk nginx-light`), LiteLLM from
`pip install 'litellm[proxy]'` in an environment of its own.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from contenders import (
    LOAD_CORE,
    Gateway,
    Server,
    cached,
    database_url,
    engine,
    litellm,
    nginx,
    redis_url,
    stack,
)
from instant import MODEL
from llama import measure as measure_llama
from rivals import Stack, folder
from soak import WAYS, Soak, as_json, soak
from streams import first_chunk_ms
from wrk import Load, body, load

CHUNKS = 50
BUSY = 16
LOGGED_S = 10.0
OF_A_CORE = ("cpu_us", "core_busy")  # the engine shares its core with the load
Figures = dict[str, float]


@dataclass(frozen=True)
class Target:
    """A promise: what is compared with it, and whether more or less is better."""

    name: str
    measured: float | None
    target: float
    unit: str
    at_least: bool
    otherwise: str = "not run"

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return self.otherwise
        kept = self.measured >= self.target if self.at_least else self.measured <= self.target
        return "kept" if kept else "MISSED"


@dataclass
class Results:
    """Figures by contender, each the median of the rounds."""

    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    logged: dict[str, int] = field(default_factory=dict)
    soaks: list[Soak] = field(default_factory=list)
    llama: dict[str, float] = field(default_factory=dict)
    others_busy: float = 0.0

    def add(self, name: str, figures: Figures) -> None:
        self.rounds.setdefault(name, []).append(figures)

    def medians(self) -> dict[str, Figures]:
        return {
            name: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
            for name, rounds in self.rounds.items()
        }


def warm(server: Server) -> None:
    """Whatever a server does at its first requests is not measured."""
    for stream in (False, True):
        asked = body(MODEL, unique=True, stream=stream)
        load(server.port, asked, connections=1, seconds=2, core=LOAD_CORE)


def whole(server: Server, seconds: int) -> Figures:
    """Answers in one piece to prompts of their own: looked up, missed, logged."""
    before, started = server.cpu_s(), time.monotonic()
    busy = _load(server, body(MODEL, unique=True), BUSY, seconds)
    used, took = server.cpu_s() - before, time.monotonic() - started
    alone = _load(server, body(MODEL, unique=True), 1, seconds)
    return {
        "per_second": busy.per_second,
        "p99_ms": busy.p99_ms,
        "cpu_us": used / busy.requests * 1e6,
        "core_busy": used / took,
        "p50_alone_ms": alone.p50_ms,
        "p99_alone_ms": alone.p99_ms,
        "requests": busy.requests + alone.requests,
    }


def hits(server: Server, seconds: int) -> Figures:
    """One prompt again and again; the first answer is stored before it is measured."""
    same = body(MODEL, unique=False)
    _load(server, same, 1, 1)
    return {"hits_per_second": _load(server, same, BUSY, seconds).per_second}


def streamed(server: Server, seconds: int) -> Figures:
    """Answers of CHUNKS chunks to prompts of their own."""
    busy = _load(server, body(MODEL, unique=True, stream=True), BUSY, seconds)
    bodies = [body(MODEL, unique=False, stream=True) for _ in range(200)]
    return {
        "chunks_per_second": busy.per_second * CHUNKS,
        "first_chunk_ms": first_chunk_ms(server.port, bodies, CHUNKS),
        "streams": busy.requests + len(bodies),
    }


def _load(server: Server, asked: str, connections: int, seconds: int) -> Load:
    found = load(server.port, asked, connections=connections, seconds=seconds, core=LOAD_CORE)
    if found.errors or not found.requests:
        raise RuntimeError(f"{server.name}: {found}")
    return found


def logged(running: Stack) -> int:
    """Rows of the log of inferences."""
    with psycopg.connect(database_url(running)) as connection:
        found = connection.execute("SELECT count(*) FROM aidb.inference_log").fetchone()
    assert found is not None
    return int(found[0])


def measure_gateway(running: Stack, home: Path, given: argparse.Namespace, seen: Results) -> None:
    """Besides the figures: that every request left a row in the log, or was counted as dropped."""
    gateway = Gateway(running)
    with gateway.running(home):
        warm(gateway)
        before = settled(running)
        figures = {**whole(gateway, given.seconds), **streamed(gateway, given.seconds)}
        expected = int(figures.pop("requests") + figures.pop("streams"))
        rows = settled(running) - before
        seen.logged["expected"] = seen.logged.get("expected", 0) + expected
        seen.logged["rows"] = seen.logged.get("rows", 0) + rows
        figures |= hits(gateway, given.seconds)
        seen.add(gateway.name, {**figures, "memory_mb": gateway.memory_mb()})


def settled(running: Stack) -> int:
    """The rows of the log, once no more come."""
    deadline, last = time.monotonic() + LOGGED_S, -1
    while time.monotonic() < deadline and last != (found := logged(running)):
        last = found
        time.sleep(1.5)
    return last


def measure_other(server: Server, home: Path, given: argparse.Namespace, seen: Results) -> None:
    ready = "/health/liveliness" if server.name == "LiteLLM" else "/v1/models"
    with server.running(home, ready):
        warm(server)
        seen.add(server.name, _figures(server, given))


def _figures(server: Server, given: argparse.Namespace) -> Figures:
    figures = {**whole(server, given.seconds), **streamed(server, given.seconds)}
    return {k: v for k, v in figures.items() if k not in ("requests", "streams")}


def measure_cached(running: Stack, home: Path, given: argparse.Namespace, seen: Results) -> None:
    with cached(redis_url(running)).running(home, "/docs") as server:
        seen.add(server.name, hits(server, given.seconds))


def measure(given: argparse.Namespace) -> Results:
    seen = Results(others_busy=psutil.cpu_percent(3) / 100)
    with ExitStack() as exits:
        home = exits.enter_context(folder())
        direct = exits.enter_context(engine("--chunks", str(CHUNKS)).running(home))
        running = exits.enter_context(stack(home))
        for number in range(given.rounds):
            _say(f"round {number + 1} of {given.rounds}")
            for step in _steps(running, home, given, seen, direct):
                step()
        for way in WAYS if given.soak else ():
            _say(f"soak: {way}")
            seen.soaks.append(soak(running, way, home, given.soak))
        if given.llama:
            _say("llama.cpp")
            try:
                seen.llama = measure_llama(running, home, given.rounds)
            except RuntimeError as error:  # what was measured before is not lost by it
                _say(f"llama.cpp: {error}")
    return seen


def _steps(
    running: Stack, home: Path, given: argparse.Namespace, seen: Results, direct: Server
) -> Iterator[Callable[[], None]]:
    def straight() -> None:
        figures = _figures(direct, given)
        seen.add(direct.name, {k: v for k, v in figures.items() if k not in OF_A_CORE})

    yield straight
    yield lambda: measure_other(nginx(home), home, given, seen)
    yield lambda: measure_gateway(running, home, given, seen)
    yield lambda: measure_cached(running, home, given, seen)
    if given.litellm:
        yield lambda: measure_other(litellm(home, given.litellm), home, given, seen)


def targets(seen: Results) -> list[Target]:
    """What is promised, against what was seen."""
    found = seen.medians()
    ours, proxy, direct = found["AI Stack"], found["nginx"], found["direct"]
    rival, endpoint = found.get("LiteLLM"), found["FastAPI + redis-py"]
    per_rival = ours["per_second"] / rival["per_second"] if rival else None
    per_hit = ours["hits_per_second"] / endpoint["hits_per_second"]
    per_chunk = ours["chunks_per_second"] / proxy["chunks_per_second"]
    added_p50 = ours["p50_alone_ms"] - direct["p50_alone_ms"]
    added_first = ours["first_chunk_ms"] - direct["first_chunk_ms"]
    rates = [
        ("throughput / nginx's", ours["per_second"] / proxy["per_second"], 0.12, "×", True),
        ("throughput / LiteLLM's", per_rival, 80, "×", True),
        ("added p50, 1 connection", added_p50, 0.6, "ms", False),
        ("p99, 16 connections", ours["p99_ms"], 6, "ms", False),
        ("cached hits / FastAPI + redis-py's", per_hit, 1.6, "×", True),
        ("chunks / nginx's", per_chunk, 0.8, "×", True),
        ("added time to first chunk", added_first, 0.5, "ms", False),
        ("rows logged / requests", seen.logged["rows"] / seen.logged["expected"], 1, "×", True),
        *((f"llama.cpp, {name}", value, 0.97, "×", True) for name, value in seen.llama.items()),
    ]
    return [Target(*row) for row in rates] + [_flat(s) for s in seen.soaks]


def _flat(found: Soak) -> Target:
    grown = None if found.refused else found.last_mb / found.warm_mb
    name, unit = f"memory, {found.way}", f"× of {found.warm_mb:g} MB"
    return Target(name, grown, 1.05, unit, False, f"refused: {found.refused}")


COLUMNS = (
    ("req/s", "per_second", "{:,.0f}"),
    ("p50 1", "p50_alone_ms", "{:.2f}"),
    ("p99 1", "p99_alone_ms", "{:.2f}"),
    ("p99 16", "p99_ms", "{:.2f}"),
    ("µs CPU", "cpu_us", "{:.0f}"),
    ("busy", "core_busy", "{:.0%}"),
    ("hits/s", "hits_per_second", "{:,.0f}"),
    ("chunks/s", "chunks_per_second", "{:,.0f}"),
    ("first ms", "first_chunk_ms", "{:.2f}"),
    ("MB", "memory_mb", "{:.0f}"),
)


def table(seen: Results) -> str:
    lines = [f"{'':20}" + "".join(f"{title:>10}" for title, _, _ in COLUMNS)]
    for name, figures in seen.medians().items():
        cells = [form.format(figures[key]) if key in figures else "" for _, key, form in COLUMNS]
        lines.append(f"{name:20}" + "".join(f"{cell:>10}" for cell in cells))
    lines += ["", f"{'promise':44}{'measured':>10}  {'target':<18}"]
    for t in targets(seen):
        value = "" if t.measured is None else f"{t.measured:.2f}"
        sign = "≥" if t.at_least else "≤"
        lines.append(f"{t.name:44}{value:>10}  {sign} {t.target:g} {t.unit:<15} {t.verdict}")
    lines.append(f"the machine was {seen.others_busy:.0%} busy before it began")
    lines.append(f"rows in the log: {seen.logged['rows']} for {seen.logged['expected']} requests")
    return "\n".join(lines)


def _report(seen: Results) -> str:
    promises = [
        {"name": t.name, "measured": t.measured, "target": t.target, "verdict": t.verdict}
        for t in targets(seen)
    ]
    given = {
        "others_busy": seen.others_busy,
        "medians": seen.medians(),
        "rounds": seen.rounds,
        "promises": promises,
    }
    extra = {"logged": seen.logged, "soaks": [*map(as_json, seen.soaks)], "llama": seen.llama}
    return json.dumps({**given, **extra}, indent=2)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--litellm", type=Path, help="its program; left out: no comparison")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are shown")
    parser.add_argument("--seconds", type=int, default=5, help="length of each load")
    parser.add_argument(
        "--soak",
        type=int,
        default=0,
        help="requests to watch memory over, in each way: 100000 as promised, 0 for none",
    )
    parser.add_argument("--llama", action="store_true", help="llama.cpp's tokens/s, tiny model")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parser.parse_args(arguments)
    seen = measure(given)
    print(_report(seen) if given.json else table(seen))


if __name__ == "__main__":
    main()
