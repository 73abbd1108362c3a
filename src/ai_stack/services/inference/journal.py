"""The log of inferences: rows wait in memory and are written in batches, off every path.

Batches are small, since whoever else is served waits while one is put into words. What waits is
bounded. While the database is down the oldest rows stay, the newest are dropped and counted; no
request ever waits for its row. A batch that the database refuses is dropped and counted too: it
would keep all others waiting.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ai_stack.alongside import is_cancelled
from ai_stack.errors import AIStackError, StackError
from ai_stack.models.inference import InferenceRecord
from ai_stack.services.inference.prices import Price

LONGEST, BATCH, PAUSE_S, RETRY_S = 20_000, 200, 0.1, 2.0

Write = Callable[[Sequence[InferenceRecord]], Awaitable[None]]
Tell = Callable[[Sequence[InferenceRecord]], None]

log = logging.getLogger(__name__)


@dataclass
class Journal:
    """Takes records at any time; `keep_writing` hands them to `write`, and empties it.

    Before that each is told once to `tell`, whether or not the database is there.
    """

    write: Write
    prices: Mapping[str, Price] = field(default_factory=dict)
    dropped: int = 0
    tell: Tell | None = None
    _told: int = 0
    _rows: deque[InferenceRecord] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        return len(self._rows)

    def add(self, record: InferenceRecord) -> None:
        """Take one record; drops it when too many wait already."""
        if len(self._rows) >= LONGEST:
            self.dropped += 1
            return
        price = self.prices.get(record.model)
        if price is not None and record.usage is not None and not record.cached:
            record.cost = price.of(record.usage)
        self._rows.append(record)

    async def keep_writing(self) -> None:
        """Write what waits, again and again, without end."""
        while not is_cancelled():
            try:
                await self.flush()
            except AIStackError as error:
                log.warning("%d inferences wait to be logged: %s", self.waiting, error.message)
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(PAUSE_S)

    async def flush(self) -> None:
        """Write all that waits; rows stay when the database cannot take them."""
        while self._rows:
            self._tell()
            batch = [self._rows[n] for n in range(min(BATCH, len(self._rows)))]
            try:
                await self.write(batch)
            except StackError as error:
                self.dropped += len(batch)
                log.error("%d inferences are not logged: %s", len(batch), error.message)
            for _ in batch:
                self._rows.popleft()
            self._told -= len(batch)

    def _tell(self) -> None:
        """Tell of those that have come since the last time."""
        if self.tell is not None and self._told < len(self._rows):
            self.tell(list(islice(self._rows, self._told, None)))
        self._told = len(self._rows)
