"""What a scrape asks of PostgreSQL: how it is, how much is in it, and what the workers count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import orjson

from ai_stack.database import Database, Record, Transaction

# (first label, second label, how many)
Counts: TypeAlias = Sequence[tuple[str, str, int]]

FRESH_S = 30
KEPT_DAYS = 30
HEALTH = """
SELECT pg_database_size(current_database()), d.numbackends, current_setting('max_connections')::int,
       d.xact_commit, d.xact_rollback, d.deadlocks, d.blks_hit, d.blks_read, d.temp_bytes,
       (SELECT coalesce(max(extract(epoch FROM now() - a.xact_start)), 0)::float
        FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()),
       (SELECT count(*) FROM pg_stat_replication),
       (SELECT max(extract(epoch FROM r.replay_lag))::float FROM pg_stat_replication r)
FROM pg_stat_database d WHERE d.datname = current_database()"""
ADD = """
INSERT INTO worker_counts AS c (series, value)
SELECT * FROM unnest(%(series)s::text[], %(values)s::double precision[]) ORDER BY 1
ON CONFLICT (series) DO UPDATE SET value = c.value + excluded.value, at = now()"""
PRESENT = """
INSERT INTO workers (id, gauges) VALUES (%(id)s, %(gauges)s::jsonb)
ON CONFLICT (id) DO UPDATE SET at = now(), gauges = excluded.gauges"""


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """How PostgreSQL is; `replication_lag_s` is None without a replica that can be seen."""

    size_bytes: int
    connections: int
    connections_limit: int
    committed: int
    rolled_back: int
    deadlocks: int
    blocks_hit: int
    blocks_read: int
    temporary_bytes: int
    oldest_transaction_s: float
    replicas: int
    replication_lag_s: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is still to be done: changes for the index, and jobs by their queue and status."""

    waiting: int
    failed: int
    oldest_s: float
    jobs: Counts


@dataclass(frozen=True, slots=True)
class Census:
    """How much there is, over all projects; runs by their kind and status."""

    projects: int
    documents: int
    chunks: int
    runs: Counts


@dataclass(frozen=True, slots=True)
class Workers:
    """What all workers together have counted, and how each one is that was heard of lately."""

    counts: Mapping[str, float]
    gauges: Sequence[Mapping[str, float]]


async def health(tx: Transaction) -> ServerHealth:
    row = await tx.row(HEALTH)
    assert row is not None
    return ServerHealth(*row)


async def backlog(tx: Transaction) -> Backlog:
    row = await tx.row("SELECT * FROM control.changes()")
    assert row is not None
    waiting, failed, oldest_s = row
    return Backlog(waiting, failed, oldest_s, await _counts(tx, "count_jobs"))


async def census(tx: Transaction) -> Census:
    row = await tx.row("SELECT * FROM control.census()")
    assert row is not None
    projects, documents, chunks = row
    return Census(projects, documents, chunks, await _counts(tx, "count_runs"))


async def _counts(tx: Transaction, function: str) -> Counts:
    rows: Sequence[Record] = await tx.rows(f"SELECT * FROM control.{function}()")
    return [(row[0], row[1], row[2]) for row in rows]


async def count_vectors(tx: Transaction, model_id: int) -> int:
    """The embeddings of a model, of every project."""
    row = await tx.row("SELECT tenant.count_vectors(%(model)s)", {"model": model_id})
    return 0 if row is None else int(row[0])


async def workers(tx: Transaction) -> Workers:
    counts = await tx.rows("SELECT series, value FROM worker_counts")
    alive = await tx.rows(
        "SELECT gauges FROM workers WHERE at > now() - make_interval(secs => %(s)s)",
        {"s": FRESH_S},
    )
    return Workers({row[0]: row[1] for row in counts}, [row[0] for row in alive])


async def tell(
    database: Database, worker: UUID, added: Mapping[str, float], gauges: Mapping[str, float]
) -> None:
    """Add what a worker has counted since it told last, and say how it is."""
    async with database.control() as tx:
        await tx.execute("SELECT set_config('synchronous_commit', 'off', true)")
        if added:
            values = [*map(float, added.values())]
            await tx.execute(ADD, {"series": [*added], "values": values})
        await tx.execute(PRESENT, {"id": worker, "gauges": orjson.dumps(gauges).decode()})


async def forget(database: Database) -> None:
    """Forget workers that are gone, and series that none has told for long."""
    async with database.control() as tx:
        await tx.execute("DELETE FROM workers WHERE at < now() - INTERVAL '1 hour'")
        days = {"days": KEPT_DAYS}
        await tx.execute(
            "DELETE FROM worker_counts WHERE at < now() - make_interval(days => %(days)s)", days
        )


async def usage(
    database: Database, since: datetime, until: datetime, *, by_principal: bool
) -> list[dict[str, Any]]:
    """Use over all projects: by project and model from the hourly sums, by principal of the log."""
    function = "usage" if by_principal else "usage_by_project"
    async with database.control() as tx:
        done = await tx.execute(
            f"SELECT * FROM control.{function}(%(since)s, %(until)s)",
            {"since": since, "until": until},
        )
        return [dict(row) for row in done.mappings()]
