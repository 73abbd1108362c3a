"""The daily backup: made by one worker at a time, pruned, and told of where it fails."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from ai_stack.alongside import is_cancelled
from ai_stack.database import Database, locks
from ai_stack.errors import AIStackError
from ai_stack.services.backup import shelf
from ai_stack.services.backup.creating import create
from ai_stack.settings import Settings

EVERY_S, FIRST_S = 86_400.0, 600.0
LOOK_S, RETRY_S = 60.0, 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Daily:
    """Makes a backup when the newest one is a day old; the first, some time after the start."""

    settings: Settings
    database: Database
    make: Callable[[Settings], Awaitable[object]] = create
    every_s: float = EVERY_S
    first_s: float = FIRST_S
    look_s: float = LOOK_S

    async def keep_making(self) -> None:
        """Without end; what fails is told, and tried again within the hour."""
        began = time.monotonic()
        while not is_cancelled():
            pause_s = self.look_s
            try:
                async with locks.only_one(self.database, "backup") as lock:
                    while not is_cancelled():
                        await lock.check()
                        if await asyncio.to_thread(self._is_due, time.monotonic() - began):
                            await self._make()
                        await asyncio.sleep(self.look_s)
            except AIStackError as error:
                log.error("the daily backup failed: %s", error.message)
                await asyncio.to_thread(self._remember, error.message)
                pause_s = RETRY_S
            await asyncio.sleep(pause_s)

    def _is_due(self, running_s: float) -> bool:
        age = shelf.newest_age_s(self.settings.backups)
        return running_s >= self.first_s if age is None else age >= self.every_s

    async def _make(self) -> None:
        await self.make(self.settings)
        settings = self.settings
        days, weeks = settings.backup_keep_days, settings.backup_keep_weeks
        removed = await asyncio.to_thread(shelf.prune, settings.backups, days, weeks)
        (settings.backups / shelf.FAILURE).unlink(missing_ok=True)
        log.info("the daily backup is made, and %d old ones are removed", len(removed))

    def _remember(self, message: str) -> None:
        with suppress(OSError):
            at = datetime.now(UTC).isoformat(timespec="seconds")
            self.settings.backups.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.settings.backups / shelf.FAILURE).write_text(
                json.dumps({"at": at, "message": message})
            )
