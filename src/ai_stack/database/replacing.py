"""A database on a server put in the place of another of the same name, in one transaction.

Each step may be taken again: which databases there are says how far it is.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from ai_stack.database import dumps, translated
from ai_stack.errors import DatabaseUnavailable, StackError

RESTORING, REPLACED = "_restoring", "_replaced"
OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = ANY(%s) AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
IN_USE = (
    "The database is not replaced, since others are connected whom this user may not disconnect: "
    "stop every gateway and worker, and restore again."
)
NOT_OWNED = (
    "The database is not replaced, since this user may not rename it: give it CREATEDB and the "
    "database, or name an empty one."
)
PAUSE_S = 0.05


def name_of(url: str) -> str:
    """The database of a URL."""
    found = conninfo_to_dict(url)
    return str(found.get("dbname") or found.get("user") or "postgres")


def place_of(url: str) -> str:
    """The database of a URL and where it is, without who asks for it."""
    found = conninfo_to_dict(url)
    where = ":".join(str(found[key]) for key in ("host", "port") if found.get(key))
    return f"{name_of(url)} at {where}" if where else name_of(url)


def beside(url: str) -> str:
    """The URL of the database that is to replace another."""
    return named(url, name_of(url) + RESTORING)


def named(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    head, mark, options = url.partition("?")
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{quote(name, safe='')}{mark}{options}"


async def make(url: str) -> str:
    """An empty database beside that of the URL, anew where one was left; its URL.

    StackError when this user may not make databases, or an earlier one was kept, whose name the
    old one is to get.
    """
    name, kept = name_of(url) + RESTORING, name_of(url) + REPLACED
    async with await _connect(url) as connection:
        if await _exists(connection, kept):
            raise StackError(
                f"The database {kept} is there, which an earlier restore kept: remove it, or give "
                "it another name, and restore again. Nothing was touched."
            )
        await _drop(connection, name)
        try:
            with translated():
                await _run(connection, "CREATE DATABASE {} TEMPLATE template0", name)
        except StackError as error:
            raise StackError(
                "A database that has data is replaced by one that is made beside it, and this user "
                "may not make databases: give it CREATEDB, or name an empty database."
            ) from error
    return beside(url)


async def replace(url: str) -> None:
    """Give the database of the URL another name, and that name to the one beside it, at once.

    Whoever is connected is disconnected, and reaches the new one by connecting again.
    """
    name = name_of(url)
    async with await _connect(url) as connection:
        if await _exists(connection, name + RESTORING):
            await _renamed(connection, url, (name, name + REPLACED), (name + RESTORING, name))


async def give_back(url: str) -> None:
    """Give the database that was replaced its name again, and the other the one that it had."""
    name = name_of(url)
    async with await _connect(url) as connection:
        if await _exists(connection, name + REPLACED):
            await _renamed(connection, url, (name, name + RESTORING), (name + REPLACED, name))


async def _exists(connection: psycopg.AsyncConnection[TupleRow], name: str) -> bool:
    with translated():
        found = await connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
    return bool(found.rowcount)


async def _renamed(
    connection: psycopg.AsyncConnection[TupleRow], url: str, *names: tuple[str, str]
) -> None:
    """Rename databases while whoever is connected to them is disconnected."""
    renamed = asyncio.create_task(_rename(connection, names))
    try:
        async with await _connect(url) as other:
            while not renamed.done():
                with suppress(psycopg.errors.InsufficientPrivilege):
                    await other.execute(OTHERS, [[old for old, _ in names]])
                await asyncio.sleep(PAUSE_S)
    finally:
        await renamed


async def _rename(
    connection: psycopg.AsyncConnection[TupleRow], names: Sequence[tuple[str, str]]
) -> None:
    try:
        with translated():
            async with connection.transaction():
                for old, new in names:
                    await _run(connection, "ALTER DATABASE {} RENAME TO {}", old, new)
    except (StackError, DatabaseUnavailable) as error:
        if isinstance(error.__cause__, psycopg.errors.ObjectInUse):
            raise StackError(IN_USE) from error
        if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise StackError(NOT_OWNED) from error
        raise


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
