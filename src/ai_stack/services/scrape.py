"""What a scrape collects: how each part is, looked up with a deadline and kept for a moment.

A part that does not answer in time is left out; the scrape itself always answers.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field

from ai_stack.caches.statistics import CacheHealth, CacheStatistics
from ai_stack.database import Database, census
from ai_stack.errors import AIStackError
from ai_stack.models.health import Health
from ai_stack.models.principals import Principal
from ai_stack.services.auth.credentials import Pairs, digest
from ai_stack.services.backup import shelf
from ai_stack.services.embedding import Models
from ai_stack.services.health import HealthChecks
from ai_stack.services.inference import Inference
from ai_stack.services.limits import Limits
from ai_stack.services.siblings import Siblings
from ai_stack.settings import Settings
from ai_stack.telemetry import Telemetry
from ai_stack.telemetry.exposition import series_of, text_of
from ai_stack.telemetry.instruments import Counter
from ai_stack.telemetry.metrics import Found
from ai_stack.telemetry.slow import KEPT, Slow
from ai_stack.vectors import Countable

DEADLINE_S = 2.5
SOON_S, LATER_S, LONG_S = 2.0, 30.0, 600.0
GATEWAY, WATCHERS = "gateway", 16

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Look:
    """One thing to find out, at most every `every_s`; `shown` is forgotten after `kept_s`."""

    find: Callable[[], Awaitable[None]]
    shown: tuple[Counter, ...]
    every_s: float = SOON_S
    kept_s: float = SOON_S
    _found_at: float = float("-inf")
    _finding: asyncio.Task[None] | None = None

    def begin(self) -> asyncio.Task[None] | None:
        """The task that finds it out; None where it is known still."""
        if self._finding is None and time.monotonic() - self._found_at > self.every_s:
            self._finding = asyncio.create_task(self._find())
        return self._finding

    async def _find(self) -> None:
        try:
            await self.find()
            self._found_at = time.monotonic()
        except AIStackError as error:
            log.debug("a scrape has to do without: %s", error.message)
        finally:
            self._finding = None

    def forget(self) -> None:
        """What was found too long ago is told no more."""
        if time.monotonic() - self._found_at > self.every_s + self.kept_s:
            for one in self.shown:
                one.clear()

    async def aclose(self) -> None:
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)


class Watchers:
    """Who watched lately, by what they carried; a few of them."""

    def __init__(self) -> None:
        self._found: dict[bytes, Principal] = {}

    def remember(self, carried: Pairs, principal: Principal) -> None:
        if len(self._found) >= WATCHERS:
            self._found.clear()
        self._found[digest(carried)] = principal

    def forget(self, carried: Pairs) -> None:
        self._found.pop(digest(carried), None)

    def known(self, carried: Pairs) -> Principal | None:
        return self._found.get(digest(carried))


@dataclass
class Scrape:
    """The exposition of a gateway; what is the whole stack's is told alike by each of them."""

    settings: Settings
    telemetry: Telemetry
    database: Database
    models: Models
    points: Countable
    inference: Inference
    watchers: Watchers = field(default_factory=Watchers)
    _stores: dict[str, CacheStatistics] = field(init=False)
    _limits: Limits | None = None
    _health: HealthChecks | None = None
    _workers: Mapping[str, float] = field(default_factory=dict)
    _siblings: Siblings | None = None
    _looks: list[Look] = field(init=False)

    def __post_init__(self) -> None:
        found, settings = self._found, self.settings
        self._stores = {"cache": CacheStatistics(settings.redis or "")}
        if settings.redis_kept != settings.redis:
            self._stores["kept"] = CacheStatistics(settings.redis_kept or "")
        self._looks = [
            Look(self._parts, (found.up, found.probe)),
            Look(self._postgres, _of_postgres(found)),
            Look(self._redis, _of_redis(found)),
            Look(self._backups, _of_backups(found), every_s=LATER_S, kept_s=LONG_S),
            Look(self._work, _of_work(found), kept_s=LATER_S),
            Look(self._amounts, _of_amounts(found), every_s=LATER_S, kept_s=LONG_S),
            Look(self._index, _of_index(found), every_s=LATER_S, kept_s=LONG_S),
        ]

    @property
    def _found(self) -> Found:
        return self.telemetry.metrics.found

    async def text(self, health: HealthChecks, limits: Limits) -> str:
        """The exposition now; `health` knows the parts. Takes DEADLINE_S at the longest."""
        self._health, self._limits = health, limits
        begun = [task for look in self._looks if (task := look.begin()) is not None]
        if begun:
            await asyncio.wait(begun, timeout=DEADLINE_S)
        for look in self._looks:
            look.forget()
        self.look()
        metrics = self.telemetry.metrics
        others = {**self._workers} if metrics.found.workers.cells else {}
        if self._siblings is not None:
            for told in await self._siblings.ask("series"):
                others |= told
        return text_of(metrics.own(), self._process, metrics.shared(), others)

    @asynccontextmanager
    async def beside(self, siblings: Siblings) -> AsyncIterator[None]:
        """Tell what the other processes of this gateway count too, and tell them what this does."""
        self._siblings = siblings
        async with siblings.answering({"series": self._own, "slow": self._slow}):
            yield

    async def slow(self, limit: int) -> list[Slow]:
        """What has been slow in the processes of this gateway, the worst first."""
        told = [] if self._siblings is None else await self._siblings.ask("slow")
        others = [Slow(**one) for process in told for one in process]
        return self.telemetry.slow.worst(limit, others)

    def _slow(self) -> list[dict[str, object]]:
        return [asdict(one) for one in self.telemetry.slow.worst(KEPT)]

    @property
    def _process(self) -> str:
        return GATEWAY if self._siblings is None else f"{GATEWAY}-{self._siblings.number}"

    def _own(self) -> Mapping[str, float]:
        self.look()
        return series_of(self.telemetry.metrics.own(), self._process)

    def look(self) -> None:
        """Find out what this process knows by itself."""
        self.telemetry.own.look()
        self._engines()
        shown, journal = self.telemetry.metrics.process, self.inference.journal
        if self._limits is not None:
            for kind, count in self._limits.refused.items():
                self.telemetry.counted.limits_refused.set(count, kind)
            self.telemetry.counted.limits_degraded.set(self._limits.degraded)
        shown.queue.set(self.inference.router.waiting)
        shown.log_waiting.set(journal.waiting)
        shown.log_dropped.set(journal.dropped)
        if self.settings.data_dir.exists():
            disk = shutil.disk_usage(self.settings.data_dir)
            self._found.disk_free.set(disk.free)
            self._found.disk_size.set(disk.total)

    async def _backups(self) -> None:
        found = await asyncio.to_thread(shelf.care, self.settings.backups)
        self._found.backup_failed.set(int(bool(found.failure)))
        if found.age_s is not None:
            self._found.backup_age.set(found.age_s)

    def _engines(self) -> None:
        shown = self.telemetry.metrics.process
        for one in (shown.engine_up, shown.engine_slots, shown.engine_working):
            one.clear()
        for member in self.inference.fleet.members:
            name = member.engine.name
            shown.engine_up.set(int(not member.failures), name)
            shown.engine_working.set(member.outstanding, name)
            for model in member.models:
                if model.slots is not None:
                    shown.engine_slots.set(model.slots, name, model.id)

    async def _parts(self) -> None:
        assert self._health is not None
        found: Health = await self._health.check()
        for name, part in found.services.items():
            if part.status != "disabled":
                self._found.up.set(int(part.status != "unhealthy"), name)
            if part.latency_ms is not None:
                self._found.probe.set(part.latency_ms / 1000, name)

    async def _postgres(self) -> None:
        async with self.database.transaction(None) as tx:
            _show_postgres(self._found, await census.health(tx))

    async def _work(self) -> None:
        """What is still to be done, and what the workers tell."""
        async with self.database.control() as tx:
            backlog, workers = await census.backlog(tx), await census.workers(tx)
        self._show_workers(workers)
        self._found.changes.set(backlog.waiting, "waiting")
        self._found.changes.set(backlog.failed, "failed")
        self._found.change_age.set(backlog.oldest_s)
        _show_counts(self._found.jobs, backlog.jobs)

    async def _amounts(self) -> None:
        async with self.database.control() as tx:
            found = await census.census(tx)
        self._found.projects.set(found.projects)
        self._found.documents.set(found.documents)
        self._found.chunks.set(found.chunks)
        _show_counts(self._found.runs, found.runs)

    async def _index(self) -> None:
        """Both sides are counted one after the other, while changes go on: twice, for the least."""
        least: tuple[int, int] | None = None
        for _ in range(2):
            model = await self.models.active()
            async with self.database.control() as tx:
                vectors = await census.count_vectors(tx, model.id)
            points = await self.points.count(model.model)
            if least is None or abs(vectors - points) < abs(least[0] - least[1]):
                least = vectors, points
            if vectors == points:
                break
        assert least is not None
        self._found.vectors.set(least[0])
        self._found.points.set(least[1])
        self._found.divergence.set(abs(least[0] - least[1]))

    def _show_workers(self, found: census.Workers) -> None:
        largest: dict[str, float] = {}
        for gauges in found.gauges:
            for series, value in gauges.items():
                largest[series] = max(value, largest.get(series, value))
        self._workers = {**found.counts, **largest}
        self._found.workers.set(len(found.gauges))

    async def _redis(self) -> None:
        for store, statistics in self._stores.items():
            health = await statistics.read()
            if health is not None:
                _show_redis(self._found, store, health)

    async def aclose(self) -> None:
        for look in self._looks:
            await look.aclose()
        for statistics in self._stores.values():
            await statistics.aclose()


def _show_postgres(found: Found, health: census.ServerHealth) -> None:
    found.size.set(health.size_bytes)
    found.connections.set(health.connections)
    found.connections_limit.set(health.connections_limit)
    found.transactions.set(health.committed, "committed")
    found.transactions.set(health.rolled_back, "rolled_back")
    found.deadlocks.set(health.deadlocks)
    found.blocks.set(health.blocks_hit, "cache")
    found.blocks.set(health.blocks_read, "disk")
    found.temporary.set(health.temporary_bytes)
    found.oldest.set(health.oldest_transaction_s)
    found.replicas.set(health.replicas)
    found.replication_lag.clear()
    if health.replication_lag_s is not None:
        found.replication_lag.set(health.replication_lag_s)


def _show_redis(found: Found, store: str, health: CacheHealth) -> None:
    found.redis_memory.set(health.memory_bytes, store)
    found.redis_limit.set(health.memory_limit_bytes, store)
    found.redis_clients.set(health.clients, store)
    found.evictions.set(health.evictions, store)
    found.lookups.set(health.hits, store, "hit")
    found.lookups.set(health.misses, store, "miss")


def _show_counts(shown: Counter, counts: census.Counts) -> None:
    shown.clear()
    for first, second, count in counts:
        shown.set(count, first, second)


def _of_postgres(found: Found) -> tuple[Counter, ...]:
    return (
        *(found.size, found.connections, found.connections_limit, found.transactions),
        *(found.deadlocks, found.blocks, found.temporary, found.oldest, found.replicas),
        found.replication_lag,
    )


def _of_backups(found: Found) -> tuple[Counter, ...]:
    return (found.backup_age, found.backup_failed)


def _of_work(found: Found) -> tuple[Counter, ...]:
    return (found.changes, found.change_age, found.jobs, found.workers)


def _of_redis(found: Found) -> tuple[Counter, ...]:
    own = (found.redis_memory, found.redis_limit, found.redis_clients)
    return (*own, found.evictions, found.lookups)


def _of_amounts(found: Found) -> tuple[Counter, ...]:
    return (found.projects, found.documents, found.chunks, found.runs)


def _of_index(found: Found) -> tuple[Counter, ...]:
    return (found.vectors, found.points, found.divergence)
