"""The door to counters that end by themselves: in Redis, or in this process.

What is taken of several counters is taken of all or of none. No script is needed for that to be
exact: a counter is a whole number of 64 bits that begins `most` below the largest, and Redis's
own BITFIELD refuses to add what would overflow it, in one step.
"""

import time
from collections.abc import Iterator, Sequence
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
    """So much of one counter, which allows `most`; `partly`: what is left will do as well.

    A counter is kept for `ttl_s` after it was begun.
    """

    key: str
    most: int
    amount: int
    ttl_s: int
    partly: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What was granted, 0 where a counter refuses, and what of it is used now by all."""

    granted: int
    used: int


class Counters(Protocol):
    """Counters by their keys; every method raises Unavailable when the server is down."""

    async def take(self, counts: Sequence[Count]) -> list[Taken]:
        """Take of each counter; where one refuses nothing is taken of the others."""

    async def add(self, counts: Sequence[Count]) -> None:
        """Add to counters, whatever they allow; a negative amount is given back."""

    async def aclose(self) -> None: ...


def open_counters(url: str) -> Counters:
    """Those at the URL of a cache; connects when they are first used."""
    if urlsplit(url).scheme == "memory":
        return MemoryCounters()
    return RedisCounters(Pipeline(Address.read(url)))


@dataclass
class MemoryCounters:
    """In this process, for `memory:`, and for as long as a server is away."""

    _used: dict[str, tuple[int, float]] = field(default_factory=dict)
    _swept_at: float = field(default_factory=time.monotonic)

    async def take(self, counts: Sequence[Count]) -> list[Taken]:
        return self.taken(counts)

    def taken(self, counts: Sequence[Count]) -> list[Taken]:
        """As `take`, at once."""
        found = [self._one(count) for count in counts]
        if all(one.granted for one in found):
            for count, one in zip(counts, found, strict=True):
                self.note(count, one.used)
        return found

    async def add(self, counts: Sequence[Count]) -> None:
        for count in counts:
            self.note(count, min(self.used(count.key) + count.amount, count.most))

    def used(self, key: str) -> int:
        """What is used of a counter."""
        found = self._used.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else 0

    def note(self, count: Count, used: int) -> None:
        """Know from elsewhere what is used of a counter."""
        now = time.monotonic()
        self._used[count.key] = used, now + count.ttl_s
        if now - self._swept_at > SWEPT_S:
            self._swept_at = now
            self._used = {key: one for key, one in self._used.items() if one[1] > now}

    async def aclose(self) -> None:
        self._used.clear()

    def _one(self, count: Count) -> Taken:
        used = self.used(count.key)
        left = count.most - used
        granted = min(left, count.amount) if count.partly else count.amount
        return Taken(granted, used + granted) if 0 < granted <= left else Taken(0, used)


class RedisCounters:
    """In a Redis or Valkey server, all counters of a request in one round trip."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def take(self, counts: Sequence[Count]) -> list[Taken]:
        """What another counter's refusal gives back is on its way when this returns."""
        answers = await self._together([c for count in counts for c in _taking(count)])
        found = [_taken(*one) for one in zip(counts, answers[1::2], strict=True)]
        lost = [count for count, one in zip(counts, found, strict=True) if one is None]
        if lost:  # evicted between its beginning and the counting: it would never end
            await self._together([("DEL", PREFIX + count.key) for count in lost])
            raise Unavailable("Redis does not keep the counters of limits.")
        taken = cast(list[Taken], found)
        if not all(one.granted for one in taken):
            await self._give_back(counts, taken)
        return taken

    async def add(self, counts: Sequence[Count]) -> None:
        await self._together([c for count in counts for c in _adding(count, count.amount)])

    async def aclose(self) -> None:
        await self._pipeline.aclose()

    async def _give_back(self, counts: Sequence[Count], taken: Sequence[Taken]) -> None:
        for count, one in zip(counts, taken, strict=True):
            if one.granted:
                for command in _adding(count, -one.granted):
                    await self._posted(command)

    async def _posted(self, command: tuple[Part, ...]) -> None:
        try:
            await self._pipeline.post(*command)
        except Down as error:
            raise _away() from error

    async def _together(self, commands: Sequence[tuple[Part, ...]]) -> list[Answer]:
        try:
            return await self._pipeline.together(commands)
        except Down as error:
            raise _away() from error


def _away() -> Unavailable:
    return Unavailable("Redis does not answer, and limits are counted there.")


def _base(count: Count) -> int:
    return LARGEST - count.most


def _beginning(count: Count) -> tuple[Part, ...]:
    start = _base(count).to_bytes(8, "big")
    return ("SET", PREFIX + count.key, start, "EX", count.ttl_s, "NX")


def _taking(count: Count) -> Iterator[tuple[Part, ...]]:
    overflow = "SAT" if count.partly else "FAIL"
    yield _beginning(count)
    yield (
        *("BITFIELD", PREFIX + count.key, "GET", "i64", 0),
        *("OVERFLOW", overflow, "INCRBY", "i64", 0, count.amount),
    )


def _adding(count: Count, amount: int) -> Iterator[tuple[Part, ...]]:
    yield _beginning(count)
    yield (
        *("BITFIELD", PREFIX + count.key, "OVERFLOW", "SAT"),
        *("INCRBY", "i64", 0, amount),
    )


def _taken(count: Count, answer: Answer) -> Taken | None:
    """What came of one counter; None for one that was not there."""
    before, after = cast("list[int | None]", answer)
    base = _base(count)
    assert before is not None
    if before < SMALLEST_BASE:
        return None
    used = max((before if after is None else after) - base, 0)
    return Taken(0 if after is None else after - before, used)
