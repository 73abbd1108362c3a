"""Retention: what was kept for a time only is forgotten, by one process at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from ai_stack.alongside import is_cancelled
from ai_stack.database import Database, artifacts, budgets, inferences, locks, runs
from ai_stack.errors import AIStackError
from ai_stack.services.inference.stored import StoredResponses

GIVEN_FILES = timedelta(days=1)
ANSWERS, ENDED_RUNS, UPLOADS = timedelta(days=2), timedelta(days=30), timedelta(hours=6)
INFERENCES, RESPONSES = timedelta(days=90), timedelta(days=30)
BUDGETS = timedelta(days=400)
PAUSE_S, RETRY_S = 3600.0, 60.0

# Forgets what is old of another part; how much that was.
Sweep: TypeAlias = Callable[[], Awaitable[int]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """Forgets answers to repeated requests, ended runs, uploads whose gateway died, the log of
    inferences, stored responses, and what was spent of budgets that are long over.
    """

    database: Database
    responses: StoredResponses
    others: Sequence[Sweep] = ()

    async def sweep(self) -> int:
        """Forget what is old, of every project; how many rows there were."""
        swept = await runs.sweep(self.database, ANSWERS, ENDED_RUNS)
        swept += await inferences.sweep(self.database, INFERENCES)
        swept += await self.responses.sweep(RESPONSES)
        swept += await budgets.sweep(self.database, BUDGETS)
        for sweep in self.others:
            swept += await sweep()
        for project in await runs.projects(self.database):
            async with self.database.transaction(project) as tx:
                swept += await runs.delete_uploads(tx, UPLOADS)
                swept += await artifacts.sweep(tx, GIVEN_FILES)
        return swept

    async def keep_sweeping(self) -> None:
        """Sweep every hour, without end."""
        while not is_cancelled():
            try:
                async with locks.only_one(self.database, "retention") as lock:
                    while not is_cancelled():
                        await lock.check()
                        log.info("swept %d rows that were old", await self.sweep())
                        await asyncio.sleep(PAUSE_S)
            except AIStackError as error:
                log.warning("old rows cannot be swept now: %s", error.message)
            await asyncio.sleep(RETRY_S)
