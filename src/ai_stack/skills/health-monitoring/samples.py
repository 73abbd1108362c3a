"""One moment of the machine and the stack, and what several of them say."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean

import psutil

from ai_stack.skill import JSON

from .machine import mounted
from .reach import ask_gateway

GATEWAY, LATENCY = "gateway", "gateway_ms"


@dataclass(frozen=True, slots=True)
class Sample:
    """`measures` are numbers by name; `states` are words: of the gateway and of its parts."""

    time: float
    measures: Mapping[str, float] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)

    def shown(self) -> dict[str, JSON]:
        return {"at": at(self.time), "measures": {**self.measures}, "states": {**self.states}}

    @property
    def told(self) -> str:
        ill = [f"{name} {word}" for name, word in self.states.items() if word not in WELL]
        return ", ".join(ill) or f"memory {self.measures['memory_percent']:.0f} %"


WELL = ("healthy", "disabled")


def at(seconds: float) -> str:
    """A time in ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


async def sample(gateway: str, disks: Sequence[str]) -> Sample:
    """This moment."""
    now = time.time()
    measures = await asyncio.to_thread(_measured, disks)
    states: dict[str, str] = {}
    if gateway:
        begun = time.perf_counter()
        answer = await ask_gateway(gateway)
        if isinstance(answer, str):
            states[GATEWAY] = "unreachable"
        else:
            measures[LATENCY] = round((time.perf_counter() - begun) * 1000, 2)
            states |= _states(answer)
    return Sample(now, measures, states)


def changes(samples: Sequence[Sample]) -> list[dict[str, JSON]]:
    """The moments at which a state became another, and those that were ill from the start."""
    found: list[dict[str, JSON]] = []
    before: dict[str, str] = {}
    for one in samples:
        for name, word in one.states.items():
            old = before.get(name)
            if old != word and (old is not None or word not in WELL):
                told = f"{name} is {word}" + (f", it was {old}" if old else "")
                change: dict[str, JSON] = {"at": at(one.time), "name": name, "to": word}
                found.append({**change, "from": old, "told": told})
            before[name] = word
    return found


def spread(samples: Sequence[Sample]) -> dict[str, JSON]:
    """Least, mean and greatest of each measure."""
    names = dict.fromkeys(name for one in samples for name in one.measures)
    return {name: _spread([o.measures[name] for o in samples if name in o.measures])
            for name in names}  # fmt: skip


def _spread(values: Sequence[float]) -> dict[str, JSON]:
    return {
        "min": min(values),
        "mean": round(fmean(values), 3),
        "max": max(values),
        "last": values[-1],
    }


def _measured(disks: Sequence[str]) -> dict[str, float]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    found = {
        "cpu_percent": psutil.cpu_percent(),
        "load": psutil.getloadavg()[0],
        "memory_percent": memory.percent,
        "memory_available_bytes": float(memory.available),
        "swap_percent": swap.percent,
    }
    for place in disks or mounted():
        try:
            found[f"disk_free_bytes:{place}"] = float(psutil.disk_usage(place).free)
        except OSError:
            continue
    return found


def _states(answer: Mapping[str, object]) -> dict[str, str]:
    services = answer["services"]
    parts = services if isinstance(services, dict) else {}
    words = {str(name): _word(part) for name, part in parts.items()}
    return {GATEWAY: str(answer["status"]), **words}


def _word(part: object) -> str:
    return str(part.get("status")) if isinstance(part, dict) else "unknown"
