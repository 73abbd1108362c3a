"""Processes that are followed: how their memory goes, and what that says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from statistics import StatisticsError, correlation, linear_regression

import psutil

from ai_stack.skill import JSON

from .processes import GONE, MIB

LEAST_MIB_PER_MINUTE = 0.5
LEAST_R_SQUARED = 0.8
LEAST_SHARE = 0.02
FEWEST = 3
MINUTE_S, HOUR_S = 60.0, 3600.0


@dataclass(slots=True)
class Followed:
    """One process with its sizes in bytes, at times in seconds since the beginning."""

    process: psutil.Process
    times: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    has_ended: bool = False

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    @property
    def name(self) -> str:
        return str(self.process.info["name"])

    def take(self, at: float) -> None:
        """Its size now; a process of the same number that began later is another one."""
        if self.has_ended or not self.process.is_running():
            self.has_ended = True
            return
        try:
            size = self.process.memory_info().rss
        except GONE:
            self.has_ended = True
            return
        if size:
            self.times.append(at)
            self.sizes.append(size)
        else:
            self.has_ended = True  # a zombie holds nothing

    @property
    def slope(self) -> float:
        """Bytes in a second, by least squares."""
        if len(self.sizes) < FEWEST:
            return 0.0
        return linear_regression(self.times, self.sizes).slope

    @property
    def r_squared(self) -> float:
        """The share of what varies that the line explains; 0 where nothing varies."""
        try:
            return correlation(self.times, self.sizes) ** 2
        except StatisticsError:
            return 0.0

    @property
    def verdict(self) -> str:
        if self.has_ended:
            return "ended"
        moved = max(self.sizes) - min(self.sizes)
        if moved < self.sizes[0] * LEAST_SHARE or self._per_minute_is_small:
            return "steady"
        if self.r_squared < LEAST_R_SQUARED:
            return "unclear"
        return "growing" if self.slope > 0 else "shrinking"

    @property
    def _per_minute_is_small(self) -> bool:
        return abs(self.slope) * MINUTE_S / MIB < LEAST_MIB_PER_MINUTE

    def shown(self, available: int) -> dict[str, JSON]:
        verdict = self.verdict
        left = available / self.slope / HOUR_S if verdict == "growing" else None
        return {
            "pid": self.pid,
            "name": self.name,
            "verdict": verdict,
            "first_bytes": self.sizes[0] if self.sizes else None,
            "last_bytes": self.sizes[-1] if self.sizes else None,
            "samples": len(self.sizes),
            "slope_mib_per_minute": round(self.slope * MINUTE_S / MIB, 3),
            "r_squared": round(self.r_squared, 3),
            "hours_left": None if left is None else round(left, 2),
        }


async def follow(followed: Sequence[Followed], total: int, every_s: float) -> AsyncIterator[int]:
    """Take so many samples of all, each at its time; yields how many there are."""
    clock = asyncio.get_running_loop()
    begun = clock.time()
    for number in range(total):
        await asyncio.sleep(max(0.0, begun + number * every_s - clock.time()))
        for one in followed:
            one.take(clock.time() - begun)
        yield number + 1
