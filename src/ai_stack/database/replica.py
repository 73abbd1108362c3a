"""A server that follows the primary: how far it has come, and what may be read there.

Whatever changes a project's index notes the primary's position with the project's generation. The
replica answers for the project when it has come that far, so that nobody misses there what was
findable before; and only while it has all that the primary had `lag_s` ago.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ai_stack.alongside import alongside, is_cancelled
from ai_stack.database import Database
from ai_stack.errors import AIStackError

EVERY_S = 0.1
KEPT = 10_000
UNKNOWN = 1 << 62
NEVER = float("-inf")
POSITION = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"
REACHED = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint WHERE pg_is_in_recovery()"

log = logging.getLogger(__name__)


async def mark(primary: Database) -> str:
    """How much the primary has written, for a generation to carry; more than any replica has
    where it does not answer."""
    try:
        return str(await _position(primary))
    except AIStackError:
        return str(UNKNOWN)


async def _position(primary: Database) -> int:
    async with primary.transaction(None) as tx:
        row = await tx.row(POSITION)
    assert row is not None
    return int(row[0])


class Replica:
    """Connects when it can, and again; whoever may not read there reads at the primary."""

    def __init__(
        self, primary: Database, connect: Callable[[], Awaitable[Database]], lag_s: float
    ) -> None:
        self._primary, self._connect, self._lag_s = primary, connect, lag_s
        self._database: Database | None = None
        self._asked = deque[tuple[float, int]](maxlen=KEPT)
        self._reached, self._current_at = -1, NEVER
        self._fit = False

    def at(self, generation: str | None) -> Database | None:
        """The replica where it has what this generation is from; None where it may not."""
        if generation is None or not self.is_fit:
            return None
        position = generation.partition(".")[2]
        return self._database if position and int(position) <= self._reached else None

    @property
    def is_fit(self) -> bool:
        """Whether it is behind by no more than it may."""
        return time.monotonic() - self._current_at <= self._lag_s

    def failed(self) -> None:
        """It did not answer: it is not asked until it is known to be current again."""
        self._current_at = NEVER

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch how far it comes, while the block lasts."""
        try:
            async with alongside(self._watch()):
                yield
        finally:
            if self._database is not None:
                await self._database.aclose()

    async def _watch(self) -> None:
        while not is_cancelled():
            try:
                await self._look()
            except AIStackError as error:
                log.debug("the replica is not known: %s", error.message)
            self._tell()
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        if self._database is None:
            self._database = await self._connect()
        asked_at = time.monotonic()
        self._asked.append((asked_at, await _position(self._primary)))
        async with self._database.transaction(None) as tx:
            row = await tx.row(REACHED)
        if row is None:  # it has become a primary itself
            self.failed()
            return
        self._reached = row[0]
        while self._asked and self._asked[0][1] <= self._reached:
            self._current_at = self._asked.popleft()[0]

    def _tell(self) -> None:
        if self.is_fit != self._fit:
            self._fit = self.is_fit
            said = "the replica is current, and is read" if self._fit else "the replica is not read"
            log.info("%s", said)
