"""The door to PostgreSQL under contention: what waits is bounded, and nobody waits in a circle."""

import asyncio
import random
from contextlib import suppress

import procrastinate
import psycopg
import pytest

from ai_stack.alongside import is_cancelled
from ai_stack.database import Database, changes, job_worker, open_database
from ai_stack.database import documents as rows
from ai_stack.database.documents import Lease
from ai_stack.errors import DatabaseUnavailable, DeadlineExceeded
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal

PROJECT = Principal().project_id


async def test_a_read_is_bounded_and_not_repeated_for_its_length(database: Database) -> None:
    assert await database.read(PROJECT, "SHOW statement_timeout", {}) == [("1min",)]
    number = "SELECT nextval('aidb.versions')"
    ((before,),) = await database.read(PROJECT, number, {})
    await database.read(PROJECT, "SELECT set_config('statement_timeout', '200', false)", {})
    with pytest.raises(DeadlineExceeded):
        await database.read(PROJECT, f"{number}, pg_sleep(5)", {})
    await database.read(PROJECT, "SELECT set_config('statement_timeout', '60000', false)", {})
    assert await database.read(PROJECT, number, {}) == [(before + 2,)]


async def test_a_read_waits_once_for_a_connection(database_url: str) -> None:
    database = await open_database(database_url, connections=2)
    pool, clock = database.pool, asyncio.get_running_loop().time
    pool.timeout = 0.5
    async with pool.connection():
        began = clock()
        with pytest.raises(DatabaseUnavailable):
            await database.read(PROJECT, "SELECT 1", {})
        assert clock() - began < 0.9
    await database.aclose()


async def test_writers_and_appliers_of_the_same_documents_never_deadlock(
    database: Database,
) -> None:
    async with database.transaction(PROJECT) as tx:
        ids = [tx.new_id() for _ in range(300)]
        await rows.insert(tx, [(id, NewDocument("x")) for id in ids])
        await rows.mark_dirty(tx, ids)

    async def write() -> None:
        for _ in range(25):
            async with database.transaction(PROJECT) as tx:
                await rows.mark_dirty(tx, random.sample(ids, len(ids)), 30)

    async def apply() -> None:
        for _ in range(25):
            async with database.transaction(PROJECT) as tx:
                found = await tx.rows("SELECT document_id, project_id, version FROM dirty")
            leases = [Lease(*row) for row in random.sample(found, len(found))]
            async with database.transaction(PROJECT) as tx:
                await changes.extend(tx, leases, 30)
            async with database.transaction(PROJECT) as tx:
                await changes.postpone(tx, leases, "later", 1, final=False)
            async with database.transaction(PROJECT) as tx:
                await changes.finish(tx, leases)

    await asyncio.gather(write(), write(), apply(), apply())


async def test_work_that_is_cancelled_while_connections_break_ends(
    database: Database, database_url: str
) -> None:
    async def forever() -> None:
        while not is_cancelled():
            with suppress(DatabaseUnavailable):
                await database.read(PROJECT, "SELECT pg_sleep(0.002)", {})

    with psycopg.connect(database_url, autocommit=True) as admin:
        for _ in range(40):
            works = [asyncio.create_task(forever()) for _ in range(4)]
            await asyncio.sleep(0.02)
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
            for work in works:
                await asyncio.sleep(random.random() / 250)
                work.cancel()
            _, going_on = await asyncio.wait(works, timeout=5)
            assert not going_on


async def test_a_worker_that_is_stopped_while_postgresql_goes_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave(*_: object) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise procrastinate.exceptions.ConnectorException from None

    monkeypatch.setattr(job_worker, "_work", leave)
    working = asyncio.create_task(job_worker.work(database, leave, 1))
    await asyncio.sleep(0.01)
    working.cancel()
    _, going_on = await asyncio.wait({working}, timeout=5)
    assert not going_on
