"""A database on a server put in the place of another of the same name, in one transaction."""

import asyncio
from contextlib import suppress
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from ai_stack.database import dumps, translated
from ai_stack.errors import StackError

RESTORING, REPLACED = "_restoring", "_replaced"
OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = ANY(%s) AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
PAUSE_S = 0.05


def name_of(url: str) -> str:
    """The database of a URL."""
    found = conninfo_to_dict(url)
    return str(found.get("dbname") or found.get("user") or "postgres")


def named(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    head, mark, options = url.partition("?")
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{quote(name, safe='')}{mark}{options}"


async def make(url: str) -> str:
    """An empty database beside that of the URL, anew where one was left; its URL.

    StackError when this user may not make databases.
    """
    name = name_of(url) + RESTORING
    async with await _connect(url) as connection:
        await _drop(connection, name)
        try:
            with translated():
                await _run(connection, "CREATE DATABASE {} TEMPLATE template0", name)
        except StackError as error:
            raise StackError(
                "A database that has data is replaced by one that is made beside it, and this user "
                "may not make databases: give it CREATEDB, or name an empty database."
            ) from error
    return named(url, name)


async def replace(url: str) -> None:
    """Give the database of the URL another name, and that name to the one beside it, at once.

    Whoever is connected is disconnected, and reaches the new one by connecting again.
    """
    name = name_of(url)
    async with await _connect(url) as connection:
        await _drop(connection, name + REPLACED)
        renamed = asyncio.create_task(_rename(connection, name))
        try:
            async with await _connect(url) as other:
                while not renamed.done():
                    with suppress(psycopg.errors.InsufficientPrivilege):
                        await other.execute(OTHERS, [[name, name + RESTORING]])
                    await asyncio.sleep(PAUSE_S)
        finally:
            await renamed


async def _rename(connection: psycopg.AsyncConnection[TupleRow], name: str) -> None:
    try:
        with translated():
            async with connection.transaction():
                await _run(connection, "ALTER DATABASE {} RENAME TO {}", name, name + REPLACED)
                await _run(connection, "ALTER DATABASE {} RENAME TO {}", name + RESTORING, name)
    except StackError as error:
        raise StackError(
            "The database is not replaced, since others are connected whom this user may not "
            "disconnect: stop every gateway and worker, and restore again."
        ) from error


async def drop(url: str, suffix: str) -> None:
    """Remove the database that was replaced, or the one that was to replace it."""
    async with await _connect(url) as connection:
        await _drop(connection, name_of(url) + suffix)


async def empty(url: str) -> None:
    """Take everything of the stack's out of a database again."""
    async with await dumps.connect(url) as connection:
        for schema in (*dumps.SCHEMAS, "tenant"):
            with translated():
                await _run(connection, "DROP SCHEMA IF EXISTS {} CASCADE", schema)


async def _connect(url: str) -> psycopg.AsyncConnection[TupleRow]:
    """To another database than the one in question, which cannot be renamed from within."""
    return await dumps.connect(named(url, "postgres"))


async def _drop(connection: psycopg.AsyncConnection[TupleRow], name: str) -> None:
    with translated():
        await _run(connection, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


async def _run(connection: psycopg.AsyncConnection[TupleRow], statement: str, *names: str) -> None:
    composed = sql.SQL(statement).format(*map(sql.Identifier, names))
    await connection.execute(composed)
