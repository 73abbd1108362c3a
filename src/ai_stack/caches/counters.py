"""The door to counters that end by themselves: in Redis, or in this process.

No script is needed for them to be exact: a counter is a whole number of 64 bits that begins `most`
below the largest, and Redis's own BITFIELD refuses to add what would overflow it, in one step.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast
from urllib.parse import urlsplit

from ai_stack.caches.pipeline import Address, Answer, Down, Part, Pipeline
from ai_stack.errors import Unavailable

PREFIX = "aidb:count:"
LARGEST = (1 << 63) - 1
SMALLEST_BASE = 1 << 62  # no counter that was begun as it should be is below
SWEPT_S = 60.0


@dataclass(frozen=True, slots=True)
class Count:
    """So much of one counter, which allows `most`; it is kept for `ttl_s` after it was begun."""

    key: str
    most: int
    amount: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What was granted, 0 where a counter refuses, and what of it is used now by all."""

    granted: int
    used: int


class Counters(Protocol):
    """Counters by their keys; every method raises Unavailable when the server is down."""

    async def take(self, count: Count) -> Taken:
        """Take the amount, or nothing where that would be more than the counter allows."""

    async def add(self, counts: Sequence[Count]) -> None:
        """Add to counters, whatever they allow; a negative amount is given back."""

    async def ping(self) -> None:
        """Return when the server answers."""

    async def aclose(self) -> None: ...


def open_counters(url: str) -> Counters:
    """Those at the URL of a cache; connects when they are first used."""
    if urlsplit(url).scheme == "memory":
        return MemoryCounters()
    return RedisCounters(Pipeline(Address.read(url)))


@dataclass
class MemoryCounters:
    """In this process, for unit tests and for `memory:`."""

    _used: dict[str, tuple[int, float]] = field(default_factory=dict)
    _swept_at: float = field(default_factory=time.monotonic)

    async def take(self, count: Count) -> Taken:
        used = self._of(count.key)
        if used + count.amount > count.most:
            return Taken(0, used)
        self._set(count, used + count.amount)
        return Taken(count.amount, used + count.amount)

    async def add(self, counts: Sequence[Count]) -> None:
        for count in counts:
            self._set(count, min(self._of(count.key) + count.amount, count.most))

    async def ping(self) -> None:
        return

    async def aclose(self) -> None:
        self._used.clear()

    def _of(self, key: str) -> int:
        found = self._used.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else 0

    def _set(self, count: Count, used: int) -> None:
        now = time.monotonic()
        self._used[count.key] = used, now + count.ttl_s
        if now - self._swept_at > SWEPT_S:
            self._swept_at = now
            self._used = {key: one for key, one in self._used.items() if one[1] > now}


class RedisCounters:
    """In a Redis or Valkey server."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def take(self, count: Count) -> Taken:
        answers = await self._together((_beginning(count), _taking(count)))
        before, after = cast("tuple[int, int | None]", answers[1])
        if before < SMALLEST_BASE:
            # Evicted between its beginning and the counting: as it is now it would never end.
            await self._together([("DEL", PREFIX + count.key)])
            raise Unavailable("Redis does not keep the counters of limits.")
        used = max((before if after is None else after) - _base(count), 0)
        return Taken(0 if after is None else count.amount, used)

    async def add(self, counts: Sequence[Count]) -> None:
        await self._together([c for one in counts for c in (_beginning(one), _adding(one))])

    async def ping(self) -> None:
        await self._together([("PING",)])

    async def aclose(self) -> None:
        await self._pipeline.aclose()

    async def _together(self, commands: Sequence[tuple[Part, ...]]) -> list[Answer]:
        try:
            return await self._pipeline.together(commands)
        except Down as error:
            raise Unavailable("Redis does not answer, and limits are counted there.") from error


def _base(count: Count) -> int:
    return LARGEST - count.most


def _beginning(count: Count) -> tuple[Part, ...]:
    start = _base(count).to_bytes(8, "big")
    return ("SET", PREFIX + count.key, start, "EX", count.ttl_s, "NX")


def _taking(count: Count) -> tuple[Part, ...]:
    add = ("OVERFLOW", "FAIL", "INCRBY", "i64", 0, count.amount)
    return ("BITFIELD", PREFIX + count.key, "GET", "i64", 0, *add)


def _adding(count: Count) -> tuple[Part, ...]:
    add = ("OVERFLOW", "SAT", "INCRBY", "i64", 0, count.amount)
    return ("BITFIELD", PREFIX + count.key, *add)
