"""Which engine works on a request: the one that knows most of its prompt, unless it is busier.

A prompt is known by chained hashes over blocks of its text: a block's hash says all that came
before it. Who knows none of it is chosen by rendezvous hashing of its first block, so that
several gateways agree without a word. A busy engine hands over to the next.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import takewhile
from uuid import UUID

import orjson

from ai_stack.errors import EngineUnavailable, TooBusy
from ai_stack.models.inference import Body, Priority
from ai_stack.services.inference.fleet import Member, Pool

BLOCK = 1024
MOST_BLOCKS = 1024
OVERFLOW, SPARE = 1.25, 1


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that waits for an engine of its pool."""

    pool: Pool
    blocks: Sequence[bytes]
    tried: frozenset[Member]
    chosen: "asyncio.Future[Member]"


@dataclass
class Router:
    """Hands out engines. What cannot have one now waits, interactive requests before others."""

    longest_queue: int
    waiting: int = 0
    _waiting: dict[Priority, deque[Waiter]] = field(
        default_factory=lambda: {"interactive": deque(), "batch": deque()}
    )

    async def acquire(
        self,
        pool: Pool,
        blocks: Sequence[bytes],
        priority: Priority,
        tried: frozenset[Member] = frozenset(),
    ) -> Member:
        """An engine of the pool that was not `tried`, to be given back by `release`.

        Raises TooBusy when too many wait already, EngineUnavailable when none is left to try.
        """
        member = self.free(pool, blocks, priority, tried)
        if member is not None:
            return member
        return await self._turn(Waiter(pool, blocks, tried, _future()), priority)

    def free(
        self,
        pool: Pool,
        blocks: Sequence[bytes],
        priority: Priority,
        tried: frozenset[Member] = frozenset(),
    ) -> Member | None:
        """As `acquire`; None where one has to wait."""
        if self.waiting and priority != "interactive" and self._awaited(pool.model.id):
            return None
        member = self._choice(pool, blocks, tried)
        return None if member is None else self._given(member, pool, blocks)

    def release(self, member: Member, pool: Pool) -> None:
        """Give an engine back, to the first who waits for it."""
        member.give_back(pool.model.id)
        if self.waiting:
            self._call()

    def _awaited(self, model: str) -> bool:
        """Whether somebody waits for this model already."""
        return any(w.pool.model.id == model for queue in self._waiting.values() for w in queue)

    def _call(self) -> None:
        """Give what is free to the first who can use it."""
        for queue in self._waiting.values():
            for waiter in queue:
                if waiter.chosen.done():  # cancelled, and not yet run to leave the queue
                    continue
                chosen = self._choice(waiter.pool, waiter.blocks, waiter.tried)
                if chosen is not None:
                    queue.remove(waiter)
                    waiter.chosen.set_result(self._given(chosen, waiter.pool, waiter.blocks))
                    return

    async def _turn(self, waiter: Waiter, priority: Priority) -> Member:
        if self.waiting >= self.longest_queue:
            raise TooBusy("Too many requests wait for this model already; try again shortly.")
        queue = self._waiting[priority]
        queue.append(waiter)
        self.waiting += 1
        try:
            return await waiter.chosen
        except asyncio.CancelledError:
            if waiter in queue:
                queue.remove(waiter)
            elif waiter.chosen.done() and not waiter.chosen.cancelled():
                self.release(waiter.chosen.result(), waiter.pool)
            raise
        finally:
            self.waiting -= 1

    def _given(self, member: Member, pool: Pool, blocks: Sequence[bytes]) -> Member:
        member.take(pool.model.id)
        if blocks:
            member.remember(blocks)
        return member

    def _choice(
        self, pool: Pool, blocks: Sequence[bytes], tried: frozenset[Member]
    ) -> Member | None:
        """The best engine with room, None when all are full; raises when none may be tried."""
        able = pool.members if len(pool.members) == 1 and not tried else _able(pool, tried)
        if len(able) == 1:
            return able[0] if able[0].has_room(pool.model.id) else None
        limit = OVERFLOW * sum(m.outstanding for m in able) / len(able) + SPARE
        free = [m for m in able if m.has_room(pool.model.id)]
        preferred = [m for m in free if m.outstanding <= limit] or free
        return max(preferred, key=lambda m: _rank(m, blocks), default=None)


def _able(pool: Pool, tried: frozenset[Member]) -> Sequence[Member]:
    now = time.monotonic()
    left = [m for m in pool.members if m not in tried]
    if not left:
        raise EngineUnavailable
    return [m for m in left if m.shunned_until <= now] or left  # one that seems down, at last


def _rank(member: Member, blocks: Sequence[bytes]) -> tuple[int, int, bytes]:
    """Known blocks first, then less work where nothing tells prompts apart, then the dice."""
    if not blocks:
        return 0, -member.outstanding, b""
    depth = sum(1 for _ in takewhile(member.blocks.__contains__, blocks))
    name = member.engine.name.encode()
    return depth, 0, blake2b(name + blocks[0], digest_size=8).digest()


def blocks_of(body: Body, project_id: UUID) -> list[bytes]:
    """The chained hashes of a prompt's blocks, the part that requests share first.

    Prompts of two projects share none, so that what one asks draws no other's requests along.
    """
    parts = (body.get("tools"), body.get("messages") or body.get("prompt"))
    text = b"".join(orjson.dumps(part) for part in parts if part is not None)
    found, chain = [], project_id.bytes
    for start in range(0, min(len(text), BLOCK * MOST_BLOCKS), BLOCK):
        chain = blake2b(chain + text[start : start + BLOCK], digest_size=8).digest()
        found.append(chain)
    return found


def _future() -> "asyncio.Future[Member]":
    return asyncio.get_running_loop().create_future()
