"""What a backup asks the database itself: one moment of it, and whether a restored one is the same.

It knows nothing of bundles, and runs none of PostgreSQL's programs.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from ai_stack.database import translated
from ai_stack.errors import StackError
from ai_stack.models.backups import Probe

SCHEMAS = ("aidb", "control", "jobs")
PROBES, NEAREST = 10, 10
MAJOR = "SELECT current_setting('server_version_num')::int / 10000"
CONTROL_RIGHTS = """
DO $$ BEGIN
  IF to_regnamespace('control') IS NOT NULL THEN
    ALTER DEFAULT PRIVILEGES IN SCHEMA control
      GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO aidb_control;
  END IF;
END $$
"""
ROLES = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidb_gateway') THEN
    CREATE ROLE aidb_gateway NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidb_control') THEN
    CREATE ROLE aidb_control NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_auth_members
                 WHERE roleid = 'aidb_control'::regrole AND member = 'aidb_gateway'::regrole) THEN
    GRANT aidb_control TO aidb_gateway WITH INHERIT FALSE, SET TRUE;
  END IF;
END $$;
CREATE EXTENSION IF NOT EXISTS vector;
"""
UUIDS = """
DO $$ BEGIN
  IF to_regprocedure('pg_catalog.uuidv7()') IS NULL
     AND to_regprocedure('public.uuidv7()') IS NULL THEN
    CREATE FUNCTION public.uuidv7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $f$
      SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
        FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid $f$;
  END IF;
END $$;
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the database: what it holds, and the name by which pg_dump sees the same."""

    name: str
    major: int
    revision: str
    size_bytes: int
    timescale: str | None
    counts: Mapping[str, int]
    models: Sequence[Mapping[str, Any]]
    probes: Sequence[Probe]
    sealed: bool


async def connect(url: str) -> psycopg.AsyncConnection[TupleRow]:
    """A connection of the schema's owner; DatabaseUnavailable when nobody answers."""
    with translated():
        return await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10)


@asynccontextmanager
async def snapshot(url: str, *, probing: bool = True) -> AsyncIterator[Snapshot]:
    """Hold one moment of the database until the context is left."""
    async with await connect(url) as connection:
        with translated():
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute("SET LOCAL jit = off")
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            found = await _seen(connection, probing)
        yield found


async def _seen(connection: psycopg.AsyncConnection[TupleRow], probing: bool) -> Snapshot:
    if not await _value(connection, "SELECT to_regclass('aidb.alembic_version') IS NOT NULL"):
        raise StackError("The database has no tables yet: there is nothing to back up.")
    models = await _rows(connection, "SELECT id, name, weights, dimensions, state FROM aidb.models")
    names = ("id", "name", "weights", "dimensions", "state")
    timescale = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    return Snapshot(
        name=await _value(connection, "SELECT pg_export_snapshot()"),
        major=await _value(connection, MAJOR),
        revision=await _value(connection, "SELECT version_num FROM aidb.alembic_version"),
        size_bytes=await _value(connection, "SELECT pg_database_size(current_database())"),
        timescale=await _value(connection, timescale),
        counts=await count(connection),
        models=[dict(zip(names, row, strict=True)) for row in models],
        probes=await _probes(connection, [row[0] for row in models]) if probing else [],
        sealed=await _is_sealed(connection),
    )


async def count(connection: psycopg.AsyncConnection[TupleRow]) -> dict[str, int]:
    """The rows of each table, partitions by their own name."""
    tables = await _rows(
        connection,
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY(%s) AND c.relkind = 'r' ORDER BY 1, 2",
        [list(SCHEMAS)],
    )
    found = {}
    for schema, table in tables:
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        found[f"{schema}.{table}"] = int(await _value(connection, query))
    return found


async def _probes(
    connection: psycopg.AsyncConnection[TupleRow], models: Sequence[int]
) -> list[Probe]:
    found = []
    for model in models:
        chunks = await _rows(
            connection,
            "SELECT chunk_id FROM aidb.embeddings WHERE model_id = %s"
            " ORDER BY md5(chunk_id::text) LIMIT %s",
            [model, PROBES],
        )
        found += [Probe(model, str(c), await nearest(connection, model, str(c))) for (c,) in chunks]
    return found


async def nearest(
    connection: psycopg.AsyncConnection[TupleRow], model: int, chunk: str
) -> tuple[str, ...]:
    """The ids of the passages nearest to one, by every vector there is: no index answers."""
    rows = await _rows(
        connection,
        "SELECT chunk_id FROM aidb.embeddings WHERE model_id = %(model)s ORDER BY round((vector <=>"
        " (SELECT vector FROM aidb.embeddings WHERE model_id = %(model)s AND chunk_id = %(chunk)s)"
        ")::numeric, 6), chunk_id LIMIT %(limit)s",
        {"model": model, "chunk": chunk, "limit": NEAREST},
    )
    return tuple(str(row[0]) for row in rows)


async def _is_sealed(connection: psycopg.AsyncConnection[TupleRow]) -> bool:
    """Whether some bodies open only with a master key that is not in the database."""
    if not await _value(connection, "SELECT to_regclass('aidb.sealing') IS NOT NULL"):
        return False
    return bool(await _value(connection, "SELECT EXISTS (SELECT FROM aidb.sealing)"))


async def _rows(
    connection: psycopg.AsyncConnection[TupleRow], query: Any, parameters: Any = None
) -> list[TupleRow]:
    with translated():
        return await (await connection.execute(query, parameters)).fetchall()


async def _value(connection: psycopg.AsyncConnection[TupleRow], query: Any) -> Any:
    rows = await _rows(connection, query)
    return rows[0][0] if rows else None


async def prepare(url: str, listed: Sequence[str]) -> None:
    """Make what an archive builds upon: the roles, the extension of vectors, and what an older
    server lacks that the archive is of.
    """
    has_uuids = any(" FUNCTION public uuidv7()" in line for line in listed)
    async with await connect(url) as connection:
        with translated():
            await connection.execute(ROLES if has_uuids else ROLES + UUIDS)


async def before_archive(url: str, timescale: str | None) -> None:
    """Have an empty database ready for an archive, TimescaleDB's restoring mode included."""
    if timescale is not None:
        await _execute(url, "CREATE EXTENSION IF NOT EXISTS timescaledb")
        await _execute(url, "SELECT timescaledb_pre_restore()")


async def after_archive(url: str, timescale: str | None) -> None:
    """End that mode."""
    if timescale is not None:
        await _execute(url, "SELECT timescaledb_post_restore()")


async def complete(url: str) -> None:
    """Give the rights that an archive does not bring, and let the planner know the rows."""
    await _execute(url, CONTROL_RIGHTS)
    await _execute(url, "ANALYZE")


async def _execute(url: str, statement: str) -> None:
    async with await connect(url) as connection:
        with translated():
            await connection.execute(statement.encode())


async def major(url: str) -> int:
    """The version of a server."""
    async with await connect(url) as connection:
        return int(await _value(connection, MAJOR))


async def is_empty(url: str) -> bool:
    """Whether a database has nothing of the stack's in it."""
    async with await connect(url) as connection:
        query = "SELECT count(*) FROM pg_namespace WHERE nspname = ANY(%s)"
        return not (await _rows(connection, query, [[*SCHEMAS, "tenant"]]))[0][0]


async def check(url: str, counts: Mapping[str, int], probes: Sequence[Probe]) -> list[str]:
    """How a restored database differs from what was backed up, in words."""
    async with await connect(url) as connection:
        found = await count(connection)
        faults = [
            f"{name} has {found.get(name)} rows and not {rows}"
            for name, rows in counts.items()
            if found.get(name) != rows
        ]
        faults += [
            f"passage {probe.chunk} has other neighbours"
            for probe in probes
            if await nearest(connection, probe.model, probe.chunk) != probe.nearest
        ]
    return faults


async def run_status(url: str, id: str) -> str:
    """How a run of any project stands; empty when there is none of this id."""
    async with await connect(url) as connection:
        rows = await _rows(connection, "SELECT status FROM aidb.runs WHERE id = %s", [id])
    return str(rows[0][0]) if rows else ""
