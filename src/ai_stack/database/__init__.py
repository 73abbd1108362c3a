"""The door to PostgreSQL, the truth of the stack: units of work over one project's views.

Only this package and the pgvector store hold SQL. A unit of work is opened by the outermost
service method; inner ones receive it. The role in use sees views, never tables.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any, TypeAlias, TypeVar, cast
from uuid import UUID
from weakref import WeakKeyDictionary

import orjson
import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout
from sqlalchemy import CursorResult, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as CheckoutTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ai_stack.database import arrays
from ai_stack.database.liveness import Connection, Liveness
from ai_stack.database.sealing import Keyring
from ai_stack.errors import (
    AlreadyExists,
    DatabaseUnavailable,
    DeadlineExceeded,
    StackError,
    StorageFull,
)
from ai_stack.models.identifiers import uuid7
from ai_stack.telemetry.statements import Statements

T = TypeVar("T")

Record: TypeAlias = tuple[Any, ...]
Parameters: TypeAlias = Mapping[str, object] | Sequence[Mapping[str, object]]

ROLE = "aidb_gateway"
OPTIONS = f"-c role={ROLE} -c search_path=tenant,public -c timezone=UTC -c jit=off"
CHECKOUT_S, CONNECT_S, STATEMENT_MS, RECONNECT_S = 10.0, 10, 60_000, 0.5
BOUNDED = f"{OPTIONS} -c statement_timeout={STATEMENT_MS}"
ARGUMENTS: dict[str, Any] = {"options": BOUNDED, "connect_timeout": CONNECT_S}
SET_PROJECT = "SELECT set_config('app.project', %(project)s, true)"
SET_AND_ASK = (  # in one round trip, whether what the project keeps is sealed, and with which key
    f"{SET_PROJECT}, (SELECT key_id FROM sealing WHERE project_id = %(project)s::uuid)"
)
ONLY_READ = "SELECT set_config('transaction_read_only', 'on', true)"
RESERVE_BYTES = 128 << 20  # what PostgreSQL's log still needs while nothing is written to it
BE_CONTROL = (
    "SELECT set_config('role', 'aidb_control', true),"
    " set_config('search_path', 'control, aidb, public', true)"
)
DIALECT = "postgresql+psycopg://"  # SQLAlchemy connects by libpq's URL: it may name several hosts
KEEP_PROJECT = "SELECT set_config('app.project', %(project)s, false)"


class Database:
    """Two pools on one server: SQLAlchemy's for units of work, psycopg's for the hot paths.

    `audited` is awaited once something is committed that the audit log tells of.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        pool: AsyncConnectionPool[Connection],
        liveness: Liveness,
        *,
        new_id: Callable[[], UUID] = uuid7,
        disk: Path | None = None,
        statements: Statements | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self.keyring = keyring
        self.audited: Callable[[], Awaitable[None]] = _nothing
        self.statements = statements or Statements()
        self.engine = engine
        self.pool = pool
        self.liveness = liveness
        self.new_id = new_id
        self.disk = disk
        # The project that each connection of the pool shows: a search in the same one as the
        # last saves a round trip. Nothing else sets it on these connections.
        self._projects = WeakKeyDictionary[Connection, UUID | None]()

    @asynccontextmanager
    async def transaction(self, project_id: UUID | None) -> AsyncIterator["Transaction"]:
        """One unit of work on a project's rows; None sees no project's, only the functions.

        Raises DatabaseUnavailable, StorageFull or DeadlineExceeded in place of the driver's
        errors; an AIStackError from within rolls back and passes through.
        """
        self.liveness.check()
        with translated():
            async with self.engine.connect() as connection:
                sealing = await _enter(connection, project_id)
                if self.disk is not None and disk_usage(self.disk).free < RESERVE_BYTES:
                    await connection.exec_driver_sql(ONLY_READ)
                yield Transaction(
                    connection,
                    project_id,
                    self.new_id,
                    self.statements,
                    keyring=self.keyring,
                    sealing=sealing,
                )
                await connection.commit()

    @asynccontextmanager
    async def control(self) -> AsyncIterator["Transaction"]:
        """One unit of work on what belongs to no project: users, keys, projects, the audit log.

        Raises as `transaction` does.
        """
        async with self.transaction(None) as tx:
            await tx.execute(BE_CONTROL)
            yield tx
        if tx.is_audited:
            await self.audited()

    async def read(
        self, project_id: UUID | None, sql: str, parameters: dict[str, object]
    ) -> list[TupleRow]:
        """One query on a project's rows, in one round trip on a connection of the hot paths."""
        return await self._promptly(partial(self._read, project_id, sql, parameters))

    async def copy(self, sql: str, rows: bytes) -> None:
        """Add rows by COPY, all or none; AlreadyExists where one of them is there already."""
        await self._promptly(partial(self._copy, sql, rows))

    async def _promptly(self, statement: Callable[[], Awaitable[T]]) -> T:
        """Send a statement on the hot paths, again where its connection had died before."""
        with translated():
            try:
                return await statement()
            except (PoolTimeout, psycopg.errors.QueryCanceled):  # again would take as long again
                raise
            except psycopg.OperationalError:
                await asyncio.shield(self._checked())
                return await statement()

    async def _checked(self) -> None:
        """Drop the connections that a restart of the server has left dead.

        The pool takes a cancellation for the fault of a connection, so this is done apart from
        who waits for it.
        """
        await self.pool.check()

    async def _read(
        self, project_id: UUID | None, sql: str, parameters: dict[str, object]
    ) -> list[TupleRow]:
        self.liveness.check()
        async with self.pool.connection() as connection:
            if connection not in self._projects or self._projects[connection] != project_id:
                self._projects.pop(connection, None)
                await connection.execute(KEEP_PROJECT, {"project": str(project_id or "")})
                self._projects[connection] = project_id
            began = time.perf_counter()
            rows = await (await connection.execute(sql, parameters)).fetchall()
            self.statements.ended(sql, time.perf_counter() - began)
            return rows

    async def _copy(self, sql: str, rows: bytes) -> None:
        self.liveness.check()
        async with self.pool.connection() as connection, connection.cursor() as cursor:
            try:
                async with cursor.copy(sql) as copy:
                    await copy.write(rows)
            except psycopg.errors.UniqueViolation as error:
                raise AlreadyExists from error

    async def ping(self) -> None:
        async with self.transaction(None) as tx:
            await tx.execute("SELECT 1")

    async def aclose(self) -> None:
        await self.liveness.aclose()
        await self.pool.close()
        await self.engine.dispose()


async def _nothing() -> None:
    """Nobody wants to know."""


async def _enter(connection: AsyncConnection, project_id: UUID | None) -> int | None:
    """Set the project, and learn the key that its bodies are sealed with.

    A connection left over from before the server's restart is made anew.
    """
    sql = SET_PROJECT if project_id is None else SET_AND_ASK
    project = {"project": "" if project_id is None else str(project_id)}
    try:
        entered = await connection.exec_driver_sql(sql, project)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        await connection.rollback()
        entered = await connection.exec_driver_sql(sql, project)
    return None if project_id is None else cast("int | None", tuple(entered.one())[-1])


@dataclass(slots=True, eq=False)
class Transaction:
    """An open unit of work; `project_id` is the project that its views show.

    `sealing` is the key that what it writes is sealed with, None where it is written in the clear;
    `is_audited` says that the audit log tells of it.
    """

    connection: AsyncConnection
    project_id: UUID | None
    new_id: Callable[[], UUID] = uuid7
    statements: Statements = field(default_factory=Statements)
    keyring: Keyring | None = None
    sealing: int | None = None
    is_audited: bool = False

    async def execute(self, sql: str, parameters: Parameters | None = None) -> CursorResult[Any]:
        began = time.perf_counter()
        try:
            return await self.connection.exec_driver_sql(sql, parameters)
        finally:
            self.statements.ended(sql, time.perf_counter() - began)

    async def rows(self, sql: str, parameters: Parameters | None = None) -> Sequence[Record]:
        return cast(Sequence[Record], (await self.execute(sql, parameters)).all())

    async def row(self, sql: str, parameters: Parameters | None = None) -> Record | None:
        return cast("Record | None", (await self.execute(sql, parameters)).one_or_none())


@contextmanager
def translated() -> Iterator[None]:
    """Raise the stack's errors for the driver's, once, here."""
    try:
        yield
    except (CheckoutTimeout, PoolTimeout) as error:
        raise DatabaseUnavailable from error
    except DBAPIError as error:
        raise _translation(error.orig) from error
    except psycopg.Error as error:
        raise _translation(error) from error


def _translation(error: BaseException | None) -> Exception:
    if isinstance(error, psycopg.errors.DiskFull | psycopg.errors.ReadOnlySqlTransaction):
        return StorageFull()
    if isinstance(error, psycopg.errors.QueryCanceled):
        return DeadlineExceeded("The database took too long to answer.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return DatabaseUnavailable()
    return StackError("The database refused a statement; the log has it under this request id.")


async def open_database(
    url: str,
    *,
    connections: int = 12,
    disk: Path | None = None,
    watched: bool = False,
    statements: Statements | None = None,
    keyring: Keyring | None = None,
) -> Database:
    """Connect to a postgresql:// URL, and refuse a server that could lose data or leak it.

    `disk` is a folder beside the server's files, where they are known: nothing is written while
    less than RESERVE_BYTES are free there, since a server without room for its log goes down
    and takes the reads with it. `watched`: a server that stands still is noticed within about
    8 s, and nobody waits for it longer; else whoever asks it waits until it goes on.
    `statements` measures what is asked, `keyring` opens what is sealed.
    Raises StackError for a server with fsync or full_page_writes off, an old one, a schema that
    is not migrated, or a role that can read the tables behind the views.
    """
    liveness = Liveness(url, OPTIONS)
    pool = AsyncConnectionPool[Connection](
        url,
        kwargs={**ARGUMENTS, "autocommit": True},
        min_size=1,
        max_size=max(1, connections // 2),
        timeout=CHECKOUT_S,
        reconnect_timeout=RECONNECT_S,
        reconnect_failed=_reconnect,
        configure=partial(_configure, liveness),
        open=False,
        check=None,
    )
    engine = _engine(max(1, connections - connections // 2), liveness)
    database = Database(engine, pool, liveness, disk=disk, statements=statements, keyring=keyring)
    if watched:
        liveness.start()
    await pool.open()
    try:
        await _check_server(database)
    except BaseException:
        await database.aclose()
        raise
    return database


async def _reconnect(pool: AsyncConnectionPool[Any]) -> None:
    """Try again at once: the pool's own pauses grow with the outage, and outlast it."""
    with suppress(PoolTimeout, PoolClosed):
        async with pool.connection(timeout=RECONNECT_S):
            pass


def _engine(connections: int, liveness: Liveness) -> AsyncEngine:
    engine = create_async_engine(
        DIALECT,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CHECKOUT_S,
        pool_use_lifo=True,
        hide_parameters=True,  # they are documents, and errors go to the log
        async_creator=partial(liveness.connect, **ARGUMENTS),
    )
    event.listen(engine.sync_engine, "connect", _on_connect)
    return engine


def _on_connect(adapted: Any, _record: object) -> None:
    set_json_loads(orjson.loads, adapted.driver_connection)  # as 1e30 came, and no int of 31 digits
    arrays.register(adapted.driver_connection)


async def _configure(liveness: Liveness, connection: Connection) -> None:
    liveness.add(connection)
    set_json_loads(orjson.loads, connection)
    arrays.register(connection)


async def _check_server(database: Database) -> None:
    async with database.transaction(None) as tx:
        row = await tx.row(
            "SELECT current_setting('fsync'), current_setting('full_page_writes'),"
            " current_setting('server_version_num')::int,"
            " to_regclass('tenant.documents') IS NOT NULL"
        )
        assert row is not None
        _require_durable(*row)
        readable = await tx.row(
            "SELECT count(*) FROM pg_class c"
            " WHERE relnamespace IN (to_regnamespace('aidb'), to_regnamespace('control'))"
            " AND relkind IN ('r', 'p', 'v', 'm', 'f')"
            " AND (has_any_column_privilege(c.oid, 'SELECT')"
            " OR has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE'))"
        )
        if readable is None or readable[0]:
            raise StackError(f"The role {ROLE} can read the tables behind the tenants' views.")


def _require_durable(fsync: str, pages: str, version: int, migrated: bool) -> None:
    if fsync != "on" or pages != "on":
        raise StackError(
            f"PostgreSQL runs with fsync={fsync} and full_page_writes={pages}: a crash would lose"
            " documents. Switch both on and start again."
        )
    if version < 160000:
        raise StackError(f"PostgreSQL {version // 10000} is too old: 16 to 18 are supported.")
    if not migrated:
        raise StackError("The database has no tables yet: run `ai-stack migrate`.")
