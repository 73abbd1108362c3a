"""What only one process at a time may do: a lock that PostgreSQL frees when its holder dies."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from ai_stack.database import OPTIONS, Database, translated

RETRY_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that is held as long as its connection lives."""

    connection: psycopg.AsyncConnection[TupleRow]

    async def check(self) -> None:
        """Return when the lock is still ours; raises DatabaseUnavailable when it is lost."""
        with translated():
            await self.connection.execute("SELECT 1")


@asynccontextmanager
async def only_one(database: Database, name: str) -> AsyncIterator[Lock]:
    """Wait until no other process holds the lock of this name, and hold it.

    Raises DatabaseUnavailable when PostgreSQL does not answer.
    """
    with translated():
        connection = await connect(database)
    async with connection:
        while not await _try(connection, name):  # noqa: ASYNC110 (another process holds it)
            await asyncio.sleep(RETRY_S)
        yield Lock(connection)


async def _try(connection: psycopg.AsyncConnection[TupleRow], name: str) -> bool:
    with translated():
        cursor = await connection.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (f"aidb.{name}",)
        )
        row = await cursor.fetchone()
        return row is not None and bool(row[0])


async def connect(database: Database, **more: Any) -> psycopg.AsyncConnection[TupleRow]:
    """A connection beside the pools, for what outlives a unit of work; `more` are libpq's."""
    url = str(database.pool.conninfo)
    return await psycopg.AsyncConnection.connect(
        url, autocommit=True, options=OPTIONS, connect_timeout=10, **more
    )
