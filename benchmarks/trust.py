"""What authentication, limits and metrics cost the gateway: each with and without, in one run.

    python benchmarks/trust.py [--rounds 3] [--seconds 8]

Three gateways run next to each other before an engine that answers at once: without anything, with
metrics, and with authentication, which is asked with keys of different limits. They are asked in
turn, a second each: what else the machine does meets them alike. Each round starts them anew. All
share one core; the load, the engine, PostgreSQL and both Redis have the other. wrk comes from
Debian.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from contenders import HERE, LOAD_CORE, Gateway, engine, stack
from gateway import Target
from instant import MODEL
from rivals import Stack, folder
from wrk import Load, body, load

BUSY, FIRST_PORT = 16, 28190
RATES = ("requests_per_minute=100000000", "requests_per_hour=1000000000")
TOKENS = ("tokens_per_minute=1000000000000",)
BUDGETS = ("requests_per_day=1000000000", "tokens_per_month=100000000000000")
MOST_LOST, MOST_ADDED_MS = 0.15, 0.15


@dataclass(frozen=True)
class Way:
    """One way to run the gateway, and the limits of the key that asks it; None for no key."""

    name: str
    limits: Sequence[str] | None = None
    bare: bool = False


PLAIN = Way("nothing", bare=True)
WAYS = (
    PLAIN,
    Way("metrics"),
    Way("+ a key", ()),
    Way("+ a limit", RATES[:1]),
    Way("+ rates, tokens, budgets", (*RATES, *TOKENS, *BUDGETS)),
)
Figures = dict[str, float]


@dataclass
class Seen:
    """Figures by way, one for each turn."""

    turns: dict[str, list[Figures]] = field(default_factory=dict)
    others_busy: float = 0.0

    def medians(self) -> dict[str, Figures]:
        return {
            name: {key: statistics.median(one[key] for one in turns) for key in turns[0]}
            for name, turns in self.turns.items()
        }


def measure(given: argparse.Namespace) -> Seen:
    seen = Seen(others_busy=psutil.cpu_percent(3) / 100)
    with ExitStack() as exits:
        home = exits.enter_context(folder())
        exits.enter_context(engine().running(home))
        running = exits.enter_context(stack(home))
        keys = {way.name: _key(running, way) for way in WAYS}
        for number in range(given.rounds):
            print(f"round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
            for turn in _round(running, home, keys, given.seconds):
                for name, figures in turn.items():
                    seen.turns.setdefault(name, []).append(figures)
    return seen


def _key(running: Stack, way: Way) -> str | None:
    if way.limits is None:
        return None
    limits = [word for limit in way.limits for word in ("--limit", limit)]
    made = running.run("keys", "create", "bench", "--scope", "infer", *limits, "--json")
    return str(json.loads(made)["key"])


def _round(
    running: Stack, home: Path, keys: Mapping[str, str | None], seconds: int
) -> Iterator[dict[str, Figures]]:
    """The figures of each way, turn by turn, of which each lasts a second."""
    with ExitStack() as exits:
        made: dict[tuple[bool, bool], Gateway] = {}
        for way in WAYS:
            kind = way.bare, way.limits is None
            if kind not in made:
                made[kind] = _gateway(running, way, FIRST_PORT + len(made))
                exits.enter_context(made[kind].running(home, "/health/live"))
        gateways = {way.name: made[way.bare, way.limits is None] for way in WAYS}
        for name, gateway in gateways.items():
            _turn(gateway, keys[name])
        for number in range(seconds):
            yield _turns(gateways, keys, number)


def _gateway(running: Stack, way: Way, port: int) -> Gateway:
    gateway = Gateway(running, port=port, AI_STACK_AUTH="off" if way.limits is None else "required")
    if way.bare:
        gateway.command = [sys.executable, str(HERE / "bare.py")]
    return gateway


def _turns(
    gateways: Mapping[str, Gateway], keys: Mapping[str, str | None], number: int
) -> dict[str, Figures]:
    """Each of them once, now in this order, now in the other."""
    names = list(gateways) if number % 2 == 0 else list(gateways)[::-1]
    return {name: _turn(gateways[name], keys[name]) for name in names}


def _turn(gateway: Gateway, key: str | None) -> Figures:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    before = gateway.cpu_s()
    busy = _load(gateway.port, headers, BUSY)
    used = gateway.cpu_s() - before
    alone = _load(gateway.port, headers, 1)
    return {
        "per_second": busy.per_second,
        "cpu_us": used / busy.requests * 1e6,
        "p99_ms": busy.p99_ms,
        "p50_alone_ms": alone.p50_ms,
        "p99_alone_ms": alone.p99_ms,
    }


def _load(port: int, headers: Mapping[str, str], connections: int) -> Load:
    asked = body(MODEL, unique=True)
    found = load(port, asked, connections=connections, seconds=1, core=LOAD_CORE, headers=headers)
    if found.errors or not found.requests:
        raise RuntimeError(str(found))
    return found


def targets(seen: Seen) -> list[Target]:
    """What is promised of each way, against the gateway that has nothing of it.

    A ratio is the median of the turns' own: the two were measured next to each other.
    """
    found = []
    for way in WAYS[1:]:
        pairs = list(zip(seen.turns[way.name], seen.turns[PLAIN.name], strict=True))
        kept = statistics.median(a["per_second"] / b["per_second"] for a, b in pairs)
        added = statistics.median(a["p50_alone_ms"] - b["p50_alone_ms"] for a, b in pairs)
        found.append(Target(f"throughput, {way.name}", kept, 1 - MOST_LOST, "×", True))
        found.append(Target(f"added p50, {way.name}", added, MOST_ADDED_MS, "ms", False))
    return found


COLUMNS = (
    ("req/s", "per_second", "{:,.0f}"),
    ("µs CPU", "cpu_us", "{:.0f}"),
    ("p99 16", "p99_ms", "{:.2f}"),
    ("p50 1", "p50_alone_ms", "{:.3f}"),
    ("p99 1", "p99_alone_ms", "{:.2f}"),
)


def table(seen: Seen) -> str:
    lines = [f"{'':28}" + "".join(f"{title:>10}" for title, _, _ in COLUMNS)]
    for name, figures in seen.medians().items():
        cells = [form.format(figures[key]) for _, key, form in COLUMNS]
        lines.append(f"{name:28}" + "".join(f"{cell:>10}" for cell in cells))
    lines += ["", f"{'promise':44}{'measured':>10}  {'target':<18}"]
    for t in targets(seen):
        sign = "≥" if t.at_least else "≤"
        lines.append(
            f"{t.name:44}{t.measured:>10.3f}  {sign} {t.target:g} {t.unit:<15} {t.verdict}"
        )
    lines.append(f"the machine was {seen.others_busy:.0%} busy before it began")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="rounds, each with gateways of its own; medians are shown",
    )
    parser.add_argument(
        "--seconds", type=int, default=8, help="turns of each way in a round, a second each"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parser.parse_args(arguments)
    seen = measure(given)
    told = {"others_busy": seen.others_busy, "medians": seen.medians(), "turns": seen.turns}
    print(json.dumps(told, indent=2) if given.json else table(seen))


if __name__ == "__main__":
    main()
