"""What a worker counts, told through PostgreSQL: the gateway alone is asked for metrics."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from ai_stack.alongside import is_cancelled
from ai_stack.database import Database, census
from ai_stack.errors import AIStackError
from ai_stack.services.scrape import Scrape
from ai_stack.telemetry.exposition import series_of
from ai_stack.telemetry.instruments import Gauge, Instrument

EVERY_S = 5.0
FORGET_S = 3600.0
WORKER = "worker"

log = logging.getLogger(__name__)


@dataclass
class Telling:
    """Adds what this process has counted to what all workers have, again and again.

    What could not be told is told with the next; a worker that dies leaves out its last seconds.
    """

    database: Database
    scrape: Scrape
    every_s: float = EVERY_S
    _id: UUID = field(default_factory=uuid4)
    _told: dict[str, float] = field(default_factory=dict)
    _forgot_at: float = float("-inf")

    async def keep_telling(self) -> None:
        """Tell without end."""
        while not is_cancelled():
            try:
                await self.tell()
            except AIStackError as error:
                log.debug("what was counted is told later: %s", error.message)
            await asyncio.sleep(self.every_s)

    async def tell(self) -> None:
        """Tell once; raises DatabaseUnavailable."""
        self.scrape.look()
        own = self.scrape.telemetry.metrics.own()
        counts = series_of(_without(own, Gauge), WORKER)
        gauges = series_of((one for one in own if isinstance(one, Gauge)), WORKER)
        await census.tell(self.database, self._id, self._added(counts), gauges)
        self._told = counts
        now = asyncio.get_running_loop().time()
        if now - self._forgot_at > FORGET_S:
            self._forgot_at = now
            await census.forget(self.database)

    def _added(self, counts: Mapping[str, float]) -> dict[str, float]:
        """What has come since the last time; what is told first is told though it be nothing."""
        return {
            series: value - self._told.get(series, 0.0)
            for series, value in counts.items()
            if value != self._told.get(series)
        }


def _without(instruments: Iterable[Instrument], kind: type[Instrument]) -> Iterable[Instrument]:
    return (one for one in instruments if not isinstance(one, kind))
