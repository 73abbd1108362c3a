"""The slowest operations of this process, by route and by statement; it holds no values of them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Literal, TypeAlias

from ai_stack.telemetry.instruments import Counter

Kind: TypeAlias = Literal["request", "statement"]

KEPT = 200
LABEL = 300


@dataclass(slots=True)
class Slow:
    """One operation's times that were over the threshold; `request_id` is that of the worst."""

    kind: Kind
    label: str
    count: int = 0
    total_s: float = 0.0
    worst_s: float = 0.0
    last_at: float = 0.0
    request_id: str | None = None


@dataclass(slots=True)
class SlowLog:
    """The KEPT worst operations; `counted` counts them all."""

    threshold_s: float
    counted: Counter
    kept: dict[tuple[Kind, str], Slow] = field(default_factory=dict)

    def note(self, kind: Kind, label: str, took_s: float, request_id: str | None) -> None:
        """Remember an operation that took longer than the threshold."""
        self.counted.add(kind)
        label = " ".join(label.split())[:LABEL]
        found = self.kept.get((kind, label))
        if found is None:
            if not self._has_room(took_s):
                return
            found = self.kept[kind, label] = Slow(kind, label)
        found.count += 1
        found.total_s += took_s
        found.last_at = time.time()
        if took_s > found.worst_s:
            found.worst_s, found.request_id = took_s, request_id

    def _has_room(self, took_s: float) -> bool:
        """Make room by what was least slow; False where that was slower than this."""
        if len(self.kept) < KEPT:
            return True
        least = min(self.kept.values(), key=attrgetter("worst_s"))
        if least.worst_s >= took_s:
            return False
        del self.kept[least.kind, least.label]
        return True

    def worst(self, limit: int, others: Iterable[Slow] = ()) -> list[Slow]:
        """The slowest, the worst first; `others` are those of other processes."""
        found = {key: replace(one) for key, one in self.kept.items()}
        for one in others:
            known = found.get((one.kind, one.label))
            found[one.kind, one.label] = one if known is None else _together(known, one)
        return sorted(found.values(), key=attrgetter("worst_s"), reverse=True)[:limit]


def _together(one: Slow, other: Slow) -> Slow:
    worse = one if one.worst_s >= other.worst_s else other
    return replace(
        worse,
        count=one.count + other.count,
        total_s=one.total_s + other.total_s,
        last_at=max(one.last_at, other.last_at),
    )
