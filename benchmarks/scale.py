"""The gateway in 1, 2 and 4 processes, each with 16 connections, and rolling restarts under load.

    python benchmarks/scale.py [--workers 1 2 4] [--rounds 3] [--seconds 4] [--restarts 2]
                               [--share 0.25]

Everything shares the machine's cores: the gateway, the load, the engine, PostgreSQL and Redis. So
throughput grows as far as cores are left. With `--share` each process of the gateway has so much
of a core at most, by a control group (version 1) of its own, which takes root: then more of them
have more to work with, as on a machine of more cores. wrk comes from Debian.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from contenders import PORTS, Gateway, engine
from instant import MODEL
from rivals import Stack, folder
from streams import Reader
from wrk import Load, body, load

CONNECTIONS, CHUNKS, PAUSE_MS = 16, 50, 20
GROUPS, PERIOD_US = Path("/sys/fs/cgroup/cpu"), 10_000
READERS, LOG = 4, "AI-Stack.log"
Figures = dict[str, float]
KINDS = (("answered", True), ("cached", False))


@dataclass
class Restarts:
    """What clients saw while processes were replaced, and how often that was."""

    replaced: int = 0
    took_s: list[float] = field(default_factory=list)
    requests: int = 0
    failed: int = 0
    whole: int = 0
    cut: int = 0


def gateway(running: Stack, workers: int) -> Gateway:
    made = Gateway(
        running,
        AI_STACK_WORKERS=str(workers),
        AI_STACK_LOG_LEVEL="info",
        AI_STACK_DATABASE_CONNECTIONS="6",
    )
    made.core = _cores()
    return made


@contextmanager
def parts(home: Path) -> Iterator[Stack]:
    """PostgreSQL and Redis, which are asked by all."""
    made = Stack(home, "pgvector:")
    made.environment["AI_STACK_PORT"] = str(PORTS["stack"])
    made.environment["AI_STACK_ENGINES"] = f"http://127.0.0.1:{PORTS['direct']}/v1"
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _cores() -> str:
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


@contextmanager
def served(running: Stack, workers: int, home: Path) -> Iterator[Gateway]:
    """The gateway, once all of its processes answer."""
    made, log = gateway(running, workers), home / LOG
    before = _answering(log)
    with made.running(home):
        deadline = time.monotonic() + 120
        while workers > 1 and _answering(log) == before:
            if time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.1)
        time.sleep(2)
        yield made


def _answering(log: Path) -> int:
    """How often all processes of a gateway have begun to answer."""
    return log.read_text().count("processes answer on port") if log.exists() else 0


@contextmanager
def held(pids: Iterable[int], share: float) -> Iterator[None]:
    """Each process to so much of a core, taken in turns of 10 ms."""
    groups = []
    for pid in pids if share else ():
        group = GROUPS / f"ai-stack-bench-{pid}"
        group.mkdir()
        groups.append(group)
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * share)))
        (group / "cgroup.procs").write_text(str(pid))
    try:
        yield
    finally:
        for group in groups:
            for pid in (group / "cgroup.procs").read_text().split():
                (GROUPS / "cgroup.procs").write_text(pid)
            group.rmdir()


def processes(made: Gateway) -> list[psutil.Process]:
    """Those that serve: the children of the parent, or the only one."""
    parent = psutil.Process(made.pid)
    return [one for one in parent.children() if "--seat" in one.cmdline()] or [parent]


def measure(made: Gateway, seconds: int, connections: int) -> Figures:
    found: Figures = {"memory_mb": sum(p.memory_info().rss for p in processes(made)) / (1 << 20)}
    for name, unique in KINDS:
        asked = body(MODEL, unique=unique)
        _load(made, asked, 1, connections)
        before = made.cpu_s()
        seen = _load(made, asked, seconds, connections)
        found[f"{name}_per_second"] = seen.per_second
        found[f"{name}_cpu_us"] = (made.cpu_s() - before) / seen.requests * 1e6
        found[f"{name}_p99_ms"] = seen.p99_ms
    return found


def _load(made: Gateway, asked: str, seconds: int, connections: int) -> Load:
    seen = load(made.port, asked, connections=connections, seconds=seconds, core=_cores())
    if seen.errors or not seen.requests:
        raise RuntimeError(str(seen))
    return seen


def restarts(made: Gateway, log: Path, count: int) -> Restarts:
    """Replace all processes so many times, under requests and streams."""
    found, stop = Restarts(), threading.Event()
    readers = [
        threading.Thread(target=_read, args=(made.port, n, stop, found)) for n in range(READERS)
    ]
    loads: list[Load] = []
    asking = threading.Thread(target=_ask, args=(made, stop, loads))
    for thread in (*readers, asking):
        thread.start()
    time.sleep(1)
    for _ in range(count):
        found.took_s.append(_replace(made, log))
        found.replaced += 1
    stop.set()
    for thread in (*readers, asking):
        thread.join()
    found.requests = sum(one.requests for one in loads)
    found.failed = sum(one.errors for one in loads)
    return found


def _replace(made: Gateway, log: Path) -> float:
    """SIGHUP, until the last process of before has left."""
    before, began_at = processes(made), time.monotonic()
    os.kill(made.pid, signal.SIGHUP)
    _, alive = psutil.wait_procs(before, timeout=120)
    if alive:
        raise RuntimeError(log.read_text()[-2000:])
    return time.monotonic() - began_at


def _ask(made: Gateway, stop: threading.Event, loads: list[Load]) -> None:
    while not stop.is_set():
        asked = body(MODEL, unique=True)
        loads.append(load(made.port, asked, connections=CONNECTIONS, seconds=4, core=_cores()))


def _read(port: int, number: int, stop: threading.Event, found: Restarts) -> None:
    """Streams of a second, a connection as long as the gateway keeps it."""
    reader, turn = Reader(port), 0
    while not stop.is_set():
        turn += 1
        try:
            stream = reader.ask(body(MODEL, unique=False, stream=True, mark=f"{number} {turn} "))
            whole = stream.done and stream.texts == CHUNKS
        except (OSError, ValueError, StopIteration):
            whole = False
        found.whole += whole
        found.cut += not whole
        if reader.closed or not whole:
            reader.close()
            reader = Reader(port)
    reader.close()


def table(rounds: dict[int, list[Figures]], seen: Restarts | None) -> str:
    medians = {
        workers: {key: statistics.median(one[key] for one in many) for key in many[0]}
        for workers, many in rounds.items()
    }
    least = medians[min(medians)]
    lines = [f"{'workers':>8}" + "".join(f"{key:>22}" for key in least)]
    for workers, figures in medians.items():
        lines.append(f"{workers:>8}" + "".join(f"{value:>22,.1f}" for value in figures.values()))
    for name, _ in KINDS:
        key = f"{name}_per_second"
        ratios = ", ".join(f"{w}: {f[key] / least[key]:.2f}" for w, f in medians.items())
        lines.append(f"{name}, beside one process: {ratios}")
    lines.append(f"{os.cpu_count()} cores for everything")
    if seen is not None:
        lines.append(
            f"{seen.replaced} rolling restarts of two processes, each in"
            f" {', '.join(f'{s:.1f}' for s in seen.took_s)} s: {seen.requests:,} requests,"
            f" {seen.failed} failed; {seen.whole} streams whole, {seen.cut} cut"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are shown")
    parser.add_argument("--seconds", type=int, default=4, help="length of each load")
    parser.add_argument("--restarts", type=int, default=2, help="rolling restarts under load")
    parser.add_argument("--share", type=float, default=0, help="of a core, for each process")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parser.parse_args(arguments)
    rounds: dict[int, list[Figures]] = {}
    seen = None
    with ExitStack() as exits:
        home = exits.enter_context(folder())
        answering = engine("--chunks", str(CHUNKS), "--delay-ms", str(PAUSE_MS))
        answering.core = _cores()
        exits.enter_context(answering.running(home))
        running = exits.enter_context(parts(home))
        for _ in range(given.rounds):
            for workers in given.workers:
                with (
                    served(running, workers, home) as made,
                    held((one.pid for one in processes(made)), given.share),
                ):
                    rounds.setdefault(workers, []).append(
                        measure(made, given.seconds, CONNECTIONS * workers)
                    )
                sys.stderr.write(f"{workers}: {rounds[workers][-1]}\n")
        if given.restarts:
            with served(running, 2, home) as made:
                seen = restarts(made, home / LOG, given.restarts)
    print(
        json.dumps({"rounds": rounds, "restarts": vars(seen) if seen else None}, indent=2)
        if given.json
        else table(rounds, seen)
    )


if __name__ == "__main__":
    main()
