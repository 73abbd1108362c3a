"""Changes that the index has still to follow: taken in leases, finished by version."""

from collections.abc import Sequence
from uuid import UUID

from ai_stack.database import Database, Transaction
from ai_stack.database.arrays import Ids
from ai_stack.database.documents import Lease

# Locked in the order in which writers mark them, so that neither waits for the other for ever.
MINE = """
WITH mine AS MATERIALIZED (SELECT document_id, d.version
  FROM dirty d JOIN unnest(%(ids)s::uuid[], %(versions)s::bigint[]) AS n(document_id, version)
  USING (document_id) WHERE d.version = n.version ORDER BY document_id FOR UPDATE OF d)"""


async def lease(
    database: Database, batch: int, seconds: float, longest: int | None = None
) -> list[Lease]:
    """Up to `batch` due changes of all projects, kept from other workers for `seconds`.

    `longest` leaves out documents of more bytes. Followers ask all the time, mostly in vain, and
    that takes one round trip.
    """
    if (await database.read(None, "SELECT tenant.has_due()", {})) != [(True,)]:
        return []
    async with database.transaction(None) as tx:
        rows = await tx.rows(
            "SELECT * FROM tenant.lease_dirty(%(batch)s, %(seconds)s, %(longest)s)",
            {"batch": batch, "seconds": seconds, "longest": longest},
        )
        return [Lease(*row) for row in rows]


async def extend(tx: Transaction, leases: Sequence[Lease], seconds: float) -> None:
    await tx.execute(
        f"{MINE} UPDATE dirty d SET due = now() + make_interval(secs => %(seconds)s) FROM mine"
        " WHERE d.document_id = mine.document_id AND d.version = mine.version",
        {"seconds": seconds, **_arrays(leases)},
    )


async def finish(tx: Transaction, leases: Sequence[Lease]) -> int:
    """The index has followed these versions; a later change of the same document stays.

    How many were still the last change of their document. It may be lost in a crash, whereafter
    the index follows them again, so nothing waits for the disk.
    """
    await tx.execute("SELECT set_config('synchronous_commit', 'off', true)")
    done = await tx.execute(
        f"{MINE} DELETE FROM dirty d USING mine"
        " WHERE d.document_id = mine.document_id AND d.version = mine.version",
        _arrays(leases),
    )
    return done.rowcount


async def postpone(
    tx: Transaction, leases: Sequence[Lease], error: str, delay_s: float, *, final: bool
) -> None:
    """Try again after `delay_s`, or never when `final`; the error is told with the document."""
    await tx.execute(
        f"{MINE} UPDATE dirty d SET due = now() + make_interval(secs => %(delay)s),"
        " error = %(error)s, failed = %(final)s, tries = greatest(tries, 1) FROM mine"
        " WHERE d.document_id = mine.document_id AND d.version = mine.version",
        {"delay": delay_s, "error": error, "final": final, **_arrays(leases)},
    )


async def unfinished(tx: Transaction, ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Those of these documents that the index has not followed, and whether it gave up."""
    rows = await tx.rows(
        "SELECT document_id, failed FROM dirty WHERE document_id = ANY (%(ids)s)",
        {"ids": list(ids)},
    )
    return {row[0]: row[1] for row in rows}


async def count(database: Database) -> tuple[int, int]:
    """(waiting, given up) over all projects."""
    async with database.transaction(None) as tx:
        row = await tx.row("SELECT waiting, failed FROM tenant.count_dirty()")
        return (0, 0) if row is None else (row[0], row[1])


async def retry_failed(tx: Transaction) -> int:
    """Give every change that was given up another chance; how many there were."""
    done = await tx.execute(
        "UPDATE dirty SET failed = false, tries = 0, error = NULL, due = now() WHERE failed"
    )
    return done.rowcount


def _arrays(leases: Sequence[Lease]) -> dict[str, object]:
    return {
        "ids": Ids(lease.document_id for lease in leases),
        "versions": [lease.version for lease in leases],
    }
