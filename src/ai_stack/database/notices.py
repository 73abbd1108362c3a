"""Hears what other processes announce: one connection, however many listen."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from ai_stack.alongside import is_cancelled
from ai_stack.database import Database
from ai_stack.database.locks import connect

RETRY_S = 1.0

log = logging.getLogger(__name__)


class Notices:
    """Events that are set when a channel carries their name.

    A notice may be lost while the connection is made anew, so whoever waits looks for
    himself from time to time. The connection is there while somebody listens.
    """

    def __init__(self, database: Database, channel: str) -> None:
        self._database = database
        self._channel = channel
        self._bells: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set at each notice of this name; the listener clears it."""
        bell = asyncio.Event()
        self._bells[name].add(bell)
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        try:
            yield bell
        finally:
            self._bells[name].discard(bell)
            if not self._bells[name]:
                del self._bells[name]
            if not self._bells:
                await self.aclose()

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        while not is_cancelled():
            try:
                await self._hear()
            except psycopg.Error as error:
                log.info("notices are interrupted: %s", type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _hear(self) -> None:
        async with await connect(self._database) as connection:
            await connection.execute(f"LISTEN {self._channel}")
            for bell in {bell for bells in self._bells.values() for bell in bells}:
                bell.set()
            async for notice in connection.notifies():
                for bell in self._bells.get(notice.payload, ()):
                    bell.set()
