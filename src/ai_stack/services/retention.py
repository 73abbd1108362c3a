"""Retention: what was kept for a time only is forgotten, by one process at a time."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta

from ai_stack.database import Database, locks, runs
from ai_stack.errors import AIStackError

ANSWERS, ENDED_RUNS, UPLOADS = timedelta(days=2), timedelta(days=30), timedelta(hours=6)
PAUSE_S, RETRY_S = 3600.0, 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """Forgets answers to repeated requests, ended runs, and uploads whose gateway died."""

    database: Database

    async def sweep(self) -> int:
        """Forget what is old, of every project; how many rows there were."""
        swept = await runs.sweep(self.database, ANSWERS, ENDED_RUNS)
        for project in await runs.projects(self.database):
            async with self.database.transaction(project) as tx:
                swept += await runs.delete_uploads(tx, UPLOADS)
        return swept

    async def keep_sweeping(self) -> None:
        """Sweep every hour, without end."""
        while True:
            try:
                async with locks.only_one(self.database, "retention") as lock:
                    while True:
                        await lock.check()
                        log.info("swept %d rows that were old", await self.sweep())
                        await asyncio.sleep(PAUSE_S)
            except AIStackError as error:
                log.warning("old rows cannot be swept now: %s", error.message)
            await asyncio.sleep(RETRY_S)
