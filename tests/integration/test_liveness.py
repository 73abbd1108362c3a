"""A PostgreSQL that stands still, as a hung machine does: nobody waits for it, nothing is lost."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

import servers
from ai_stack.database import OPTIONS, Database, open_database
from ai_stack.database import documents as rows
from ai_stack.database.liveness import Liveness
from ai_stack.database.migrating import migrate
from ai_stack.errors import DatabaseUnavailable
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal

pytestmark = pytest.mark.alone

PROJECT = Principal().project_id
EVERY_S, PATIENCE_S, SLACK_S = 0.2, 1.2, 0.8


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with servers.postgres() as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE stack")
        made = url.format(database="stack")
        migrate(made)
        yield made


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = await open_database(url, connections=4, watched=True)
    database.liveness.every_s, database.liveness.patience_s = EVERY_S, PATIENCE_S
    await database.liveness.aclose()
    database.liveness.start()
    database.pool.timeout = PATIENCE_S  # for whoever waits in its queue
    yield database
    await database.aclose()


@pytest.fixture
async def watched(server_url: str) -> AsyncIterator[Database]:
    async with opened(server_url) as database:
        yield database


@contextmanager
def standing(url: str) -> Iterator[None]:
    pidfile = Path(url.rpartition("host=")[2], "data", "postmaster.pid")
    leader = psutil.Process(int(pidfile.read_text().split()[0]))
    leader.suspend()
    stopped = [leader, *leader.children(recursive=True)]
    try:
        for process in stopped:
            process.suspend()
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


async def add(database: Database, key: str) -> str:
    async with database.transaction(PROJECT) as tx:
        await rows.insert(tx, [(tx.new_id(), NewDocument("x", key=key))])
    return key


async def refused(asked: Awaitable[object]) -> float:
    """How long it took to be refused."""
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await asked
    return time.monotonic() - began


async def until_it_answers(database: Database, within_s: float = 3.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            with suppress(DatabaseUnavailable):
                await database.ping()
                await database.read(PROJECT, "SELECT 1", {})
                return
            await asyncio.sleep(0.05)


async def test_nobody_waits_for_a_server_that_stands_still(
    watched: Database, server_url: str
) -> None:
    told: set[str] = set()
    held: set[int] = set()
    for turn in range(6):
        await asyncio.gather(*(watched.read(PROJECT, "SELECT 1", {}) for _ in range(6)))
        told.update(await asyncio.gather(*(add(watched, f"before {turn} {n}") for n in range(6))))
        with standing(server_url):
            reads = [watched.read(PROJECT, "SELECT 1", {}) for _ in range(6)]
            writes = [add(watched, f"during {turn} {n}") for n in range(6)]
            async with asyncio.timeout(PATIENCE_S * 5):
                waited = await asyncio.gather(*(refused(each) for each in [*reads, *writes]))
            assert max(waited) < EVERY_S + PATIENCE_S + SLACK_S
            at_once = await refused(watched.read(PROJECT, "SELECT 1", {}))
            assert max(at_once, await refused(watched.ping())) < 0.1
            await asyncio.sleep(PATIENCE_S)
        await until_it_answers(watched)
        told.add(await add(watched, f"after {turn}"))
        await asyncio.sleep(EVERY_S)
        held.add(psutil.Process().num_fds())
    found = await watched.read(PROJECT, "SELECT key FROM document_keys", {})
    assert told <= {key for (key,) in found}
    assert max(held) - min(held) <= 3  # the pools' own coming and going


async def test_a_transaction_that_is_cut_leaves_nothing(watched: Database, server_url: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with watched.transaction(PROJECT) as tx:
            await rows.insert(tx, [(tx.new_id(), NewDocument("x", key="half"))])
            with standing(server_url):
                async with asyncio.timeout(PATIENCE_S * 5):
                    await tx.execute("SELECT 1")
    await until_it_answers(watched)
    assert await watched.read(PROJECT, "SELECT 1 FROM document_keys WHERE key = 'half'", {}) == []


async def test_a_busy_server_is_not_silent(watched: Database) -> None:
    slow = watched.read(PROJECT, f"SELECT pg_sleep({PATIENCE_S * 3})", {})
    assert len(await slow) == 1
    assert not watched.liveness.silent


class Interrupted(Liveness):
    """In a process that gets no time between a question and its answer."""

    async def _ask(self) -> None:
        time.sleep(self.patience_s * 1.5)
        await super()._ask()


async def test_a_gateway_that_stood_still_itself_does_not_blame_the_server(
    server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    liveness = Interrupted(server_url, OPTIONS)
    liveness.every_s, liveness.patience_s = 0, PATIENCE_S
    liveness.start()
    await asyncio.sleep(PATIENCE_S * 4)
    await liveness.aclose()
    assert not [r for r in caplog.records if r.name == "ai_stack.database.liveness"]


async def test_a_server_that_ends_is_no_silent_one(watched: Database, server_url: str) -> None:
    """Whoever refuses can be asked again at once: the driver tells."""
    with standing(server_url):
        async with asyncio.timeout(EVERY_S + PATIENCE_S + SLACK_S):
            while not watched.liveness.silent:
                await asyncio.sleep(0.05)
        pidfile = Path(server_url.rpartition("host=")[2], "data", "postmaster.pid")
        leader = psutil.Process(int(pidfile.read_text().split()[0]))
        for process in [leader, *leader.children(recursive=True)]:
            process.kill()
        async with asyncio.timeout(PATIENCE_S + SLACK_S):
            while watched.liveness.silent:
                await asyncio.sleep(0.05)
    await refused(watched.ping())
