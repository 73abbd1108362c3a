"""Runs and their events, as rows; what happens in a run is announced to those who listen.

A row of kind `upload` is an import whose files are still coming: no run yet, and nobody's to see.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from ai_stack.database import Database, Record, Transaction
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal
from ai_stack.models.runs import Event, EventKind, Run, RunStatus

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of pairs
UPLOAD = "upload"
CHANNEL = "aidb_runs"
COLUMNS = """
r.id, r.kind, r.status, r.input, r.output, r.error, r.created_at, r.finished_at,
(SELECT data FROM run_events e WHERE e.run_id = r.id AND e.kind = 'progress'
 ORDER BY number DESC LIMIT 1)"""


async def insert(
    tx: Transaction,
    principal: Principal,
    kind: str,
    input: Mapping[str, JSON],
    status: RunStatus = "queued",
) -> UUID:
    """A new run, which is done with the principal's rights."""
    id, who = tx.new_id(), json.dumps(principal.kept())
    await tx.execute(
        "INSERT INTO runs (id, kind, status, input, principal)"
        " VALUES (%(id)s, %(kind)s, %(status)s, %(input)s::jsonb, %(who)s::jsonb)",
        {"id": id, "kind": kind, "status": status, "input": encoded(input), "who": who},
    )
    return id


async def begin_import(tx: Transaction, id: UUID, input: Mapping[str, JSON]) -> None:
    """The files of an upload have all come: make it a run."""
    await tx.execute(
        "UPDATE runs SET kind = 'import', input = %(input)s::jsonb WHERE id = %(id)s",
        {"id": id, "input": encoded(input)},
    )


async def delete(tx: Transaction, id: UUID) -> None:
    await tx.execute("DELETE FROM runs WHERE id = %(id)s", {"id": id})


async def delete_uploads(tx: Transaction, age: timedelta) -> int:
    """Forget uploads whose gateway died; how many there were."""
    done = await tx.execute(
        f"DELETE FROM runs WHERE kind = '{UPLOAD}' AND created_at < now() - %(age)s", {"age": age}
    )
    return done.rowcount


async def find(tx: Transaction, id: UUID) -> Run | None:
    row = await tx.row(
        f"SELECT {COLUMNS} FROM runs r WHERE id = %(id)s AND kind <> '{UPLOAD}'", {"id": id}
    )
    return None if row is None else _run(row)


async def page(tx: Transaction, *, before: UUID | None, limit: int, kind: str | None) -> list[Run]:
    """Runs, newest first, from before one of them on."""
    rows = await tx.rows(
        f"SELECT {COLUMNS} FROM runs r WHERE kind <> '{UPLOAD}'"
        " AND (%(kind)s::text IS NULL OR kind = %(kind)s)"
        " AND (%(before)s::uuid IS NULL OR id < %(before)s) ORDER BY id DESC LIMIT %(limit)s",
        {"before": before, "limit": limit, "kind": kind},
    )
    return [_run(row) for row in rows]


async def lock(tx: Transaction, id: UUID) -> tuple[RunStatus, bool] | None:
    """(status, whether it is to be cancelled) of a run, held until the transaction ends."""
    row = await tx.row(
        f"SELECT status, cancelling FROM runs WHERE id = %(id)s AND kind <> '{UPLOAD}' FOR UPDATE",
        {"id": id},
    )
    return None if row is None else (row[0], row[1])


async def set_status(tx: Transaction, id: UUID, status: RunStatus) -> None:
    """Queue or run (again): what an earlier end left behind is cleared."""
    await tx.execute(
        "UPDATE runs SET status = %(status)s, cancelling = false, error = NULL, output = NULL,"
        " finished_at = NULL WHERE id = %(id)s",
        {"id": id, "status": status},
    )


async def ask_to_cancel(tx: Transaction, id: UUID) -> None:
    await tx.execute("UPDATE runs SET cancelling = true WHERE id = %(id)s", {"id": id})


async def finish(
    tx: Transaction,
    id: UUID,
    status: RunStatus,
    output: Mapping[str, JSON] | None = None,
    error: str | None = None,
) -> None:
    await tx.execute(
        "UPDATE runs SET status = %(status)s, output = %(output)s::jsonb, error = %(error)s,"
        " finished_at = now() WHERE id = %(id)s",
        {
            "id": id,
            "status": status,
            "output": None if output is None else encoded(output),
            "error": error,
        },
    )


async def append(tx: Transaction, id: UUID, kind: EventKind, data: Mapping[str, JSON]) -> int:
    """Add an event to a run that this transaction has locked, and announce it; its number."""
    row = await tx.row(
        "INSERT INTO run_events (run_id, number, kind, data)"
        " SELECT %(id)s, coalesce(max(number), 0) + 1, %(kind)s, %(data)s::jsonb"
        " FROM run_events WHERE run_id = %(id)s RETURNING number",
        {"id": id, "kind": kind, "data": encoded(data)},
    )
    await tx.execute(f"SELECT pg_notify('{CHANNEL}', %(id)s)", {"id": str(id)})
    assert row is not None
    return int(row[0])


async def events(tx: Transaction, id: UUID, after: int, limit: int) -> list[Event]:
    rows = await tx.rows(
        "SELECT number, kind, data, at FROM run_events"
        " WHERE run_id = %(id)s AND number > %(after)s ORDER BY number LIMIT %(limit)s",
        {"id": id, "after": after, "limit": limit},
    )
    return [Event(*row) for row in rows]


async def unended(tx: Transaction, kind: str) -> list[UUID]:
    """Runs of a kind that have not ended."""
    rows = await tx.rows(
        "SELECT id FROM runs WHERE kind = %(kind)s AND status IN ('queued', 'running')",
        {"kind": kind},
    )
    return [row[0] for row in rows]


async def succeeded(tx: Transaction, kind: str, age: timedelta) -> list[Mapping[str, JSON]]:
    """What the runs of a kind were given that succeeded no longer ago than this."""
    rows = await tx.rows(
        "SELECT input FROM runs WHERE kind = %(kind)s AND status = 'succeeded'"
        " AND finished_at > now() - %(age)s",
        {"kind": kind, "age": age},
    )
    return [row[0] for row in rows]


async def project_of(database: Database, id: UUID) -> UUID | None:
    """The project of a run, None when the run is gone."""
    async with database.transaction(None) as tx:
        row = await tx.row("SELECT tenant.project_of_run(%(id)s)", {"id": id})
        return None if row is None else row[0]


async def hand_over(tx: Transaction, id: UUID, principal: Principal) -> None:
    """Have a run done with another principal's rights."""
    given = {"id": id, "who": json.dumps(principal.kept())}
    await tx.execute("UPDATE runs SET principal = %(who)s::jsonb WHERE id = %(id)s", given)


async def principal_of(tx: Transaction, id: UUID) -> Principal:
    """Who started a run, with the rights of that moment."""
    row = await tx.row("SELECT project_id, principal FROM runs WHERE id = %(id)s", {"id": id})
    assert row is not None
    return Principal.restored(*row)


async def projects(database: Database) -> list[UUID]:
    async with database.transaction(None) as tx:
        return [row[0] for row in await tx.rows("SELECT tenant.list_projects()")]


async def sweep(database: Database, answers: timedelta, ended: timedelta) -> int:
    """Forget old answers to repeated requests and runs that ended long ago, of every project."""
    async with database.transaction(None) as tx:
        row = await tx.row(
            "SELECT tenant.sweep(%(answers)s, %(ended)s)", {"answers": answers, "ended": ended}
        )
        return 0 if row is None else int(row[0])


def encoded(value: JSON) -> str:
    """JSON that jsonb takes: what it refuses in texts and numbers is replaced, and told by that."""
    return json.dumps(_storable(value), allow_nan=False)


def _storable(value: JSON) -> JSON:
    if isinstance(value, str):
        return UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(_storable(name)): _storable(below) for name, below in value.items()}
    return [_storable(below) for below in value] if isinstance(value, list | tuple) else value


def _run(row: Record) -> Run:
    return Run(*row)
