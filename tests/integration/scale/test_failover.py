"""Servers that are lost under load: a standby takes over, a replica falls behind, a Redis dies."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import psycopg
import pytest

import followers
import servers
from ai_stack.caches.pipeline import Address, Down, Pipeline
from ai_stack.database.migrating import migrate
from followers import Pair, Redises
from processes import Ground, Process

pytestmark = pytest.mark.alone

LANES = 4
NAME = "ours"


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A write is acknowledged when the standby has it on its disk."""
    with followers.postgres_pair("-c", "synchronous_standby_names=*") as made:
        prepare(made)
        yield made


@pytest.fixture
def lazy_pair() -> Iterator[Pair]:
    """The standby gets writes after they are acknowledged, as is PostgreSQL's default."""
    with followers.postgres_pair() as made:
        prepare(made)
        yield made


def prepare(pair: Pair) -> None:
    with psycopg.connect(pair.primary.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {NAME}")
    migrate(pair.url(NAME))


def ground(folder: Path, database: str, redis: str, **variables: str) -> Ground:
    given = {
        "AI_STACK_DATABASE_URL": database,
        "AI_STACK_DATABASE_CONNECTIONS": "6",
        "AI_STACK_REDIS_URL": redis,
        "AI_STACK_VECTORS_URL": "pgvector:",
        "AI_STACK_EMBEDDER_URL": "memory:",
        "AI_STACK_ENGINES": "memory:",
        "AI_STACK_WATCH_IMPORTS": "false",
    }
    return Ground(folder, {**given, **variables})


@dataclass
class Seen:
    """What callers saw: statuses and failures, and when each success came."""

    statuses: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def silence_s(self, since: float) -> float:
        """The longest time without a success from a moment on."""
        moments = [since, *sorted(moment for moment in self.at if moment > since)]
        return max(after - before for before, after in pairwise(moments))


Ask = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]


@asynccontextmanager
async def calling(made: Ground, gateway: Process, ask: Ask) -> AsyncIterator[Seen]:
    """Callers that ask, one request after the other, and never twice for the same."""
    seen, stop = Seen(), asyncio.Event()
    tasks = [asyncio.create_task(_lane(made, gateway, ask, n, seen, stop)) for n in range(LANES)]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _lane(
    made: Ground, gateway: Process, ask: Ask, lane: int, seen: Seen, stop: asyncio.Event
) -> None:
    async with made.client(gateway) as client:
        turn = 0
        while not stop.is_set():
            turn += 1
            name = f"{lane}-{turn}"
            try:
                answer = await ask(client, name)
            except httpx.HTTPError as error:
                seen.statuses[type(error).__name__] += 1
                continue
            seen.statuses[str(answer.status_code)] += 1
            if answer.status_code < 300:
                seen.kept.append(name)
                seen.at.append(time.monotonic())
            else:
                await asyncio.sleep(0.05)


async def write(client: httpx.AsyncClient, name: str) -> httpx.Response:
    body = {"content": f"The note {name}.", "id": name}
    return await client.post("/documents?wait=false", json=body)


async def test_a_standby_takes_over_and_no_acknowledged_write_is_lost(
    pair: Pair, tmp_path: Path
) -> None:
    with servers.redis() as redis:
        made = ground(tmp_path, pair.url(NAME), f"unix://{redis.socket}")
        async with made.gateway("--workers", "2") as gateway:
            await gateway.until_said("2 processes answer")
            async with calling(made, gateway, write) as seen:
                await asyncio.sleep(1.5)
                killed_at = time.monotonic()
                await asyncio.to_thread(pair.primary.kill)
                assert pair.standby.sql("SELECT pg_promote()") is True
                promoted_at = time.monotonic()
                await asyncio.sleep(4)
            await _check_kept(made, gateway, seen)
    print(f"took over: {seen.statuses}, {seen.silence_s(killed_at):.2f} s without a write")
    assert {*seen.statuses} <= {"202", "201", "503"}
    assert any(moment > promoted_at for moment in seen.at)
    assert seen.silence_s(killed_at) < 5


async def _check_kept(made: Ground, gateway: Process, seen: Seen) -> None:
    assert len(seen.kept) > 50
    async with made.client(gateway) as client:
        for name in seen.kept:
            found = await client.get(f"/documents/{name}")
            assert found.status_code == 200, name
            assert found.json()["content"] == f"The note {name}."


async def search(client: httpx.AsyncClient, words: str) -> list[str]:
    asked = {"query": words, "mode": "hybrid"}
    answer = await client.post("/search/semantic", json=asked)
    assert answer.status_code == 200, answer.text
    assert "degraded" not in answer.json()
    return [one["document"]["id"] for one in answer.json()["results"]]


async def outcomes(client: httpx.AsyncClient) -> Counter[str]:
    """Where the searches were read."""
    text = (await client.get("/metrics")).text
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("aidb_replica_searches_total{"):
            found[line.partition('outcome="')[2].partition('"')[0]] += int(line.split()[-1])
    return found


async def test_a_replica_is_read_where_it_has_what_was_written(
    lazy_pair: Pair, tmp_path: Path
) -> None:
    with servers.redis() as redis:
        replica = {"AI_STACK_DATABASE_REPLICA_URL": lazy_pair.follows(NAME)}
        made = ground(tmp_path, lazy_pair.url(NAME), f"unix://{redis.socket}", **replica)
        async with made.gateway() as gateway, made.client(gateway) as client:
            await gateway.until_said("is current, and is read")
            await _found_at_once(client, 20)
            await asyncio.sleep(0.5)
            for turn in range(20):
                assert f"word-{turn}" in await search(client, f"marzipan{turn}")
            assert (await outcomes(client))["read"] > 10

            lazy_pair.standby.sql("SELECT pg_wal_replay_pause()")
            await _found_at_once(client, 5, "behind")
            await asyncio.sleep(1.3)
            before = await outcomes(client)
            for turn in range(5):
                assert f"behind-{turn}" in await search(client, f"marzipan{turn}")
            assert (await outcomes(client))["read"] == before["read"]
            lazy_pair.standby.sql("SELECT pg_wal_replay_resume()")
            await gateway.until_said("is current, and is read", 2)

            await asyncio.to_thread(lazy_pair.standby.kill)
            longest_s = 0.0
            for turn in range(20):
                began_at = time.monotonic()
                assert f"word-{turn}" in await search(client, f"marzipan{turn} lost")
                longest_s = max(longest_s, time.monotonic() - began_at)
            print(f"a replica that was killed: {longest_s:.2f} s for the longest search")
            assert longest_s < 4
            lazy_pair.standby.start()
            await gateway.until_said("is current, and is read", 3)
            read = (await outcomes(client))["read"]
            await search(client, "marzipan1 again")
            assert (await outcomes(client))["read"] == read + 1


async def _found_at_once(client: httpx.AsyncClient, count: int, name: str = "word") -> None:
    """What was written is found by the very next search, whatever the replica has."""
    for turn in range(count):
        body = {"content": f"The {name} marzipan{turn} is here.", "id": f"{name}-{turn}"}
        assert (await client.post("/documents", json=body)).status_code == 201
        assert f"{name}-{turn}" in await search(client, f"marzipan{turn} {name}")


async def test_a_replica_that_is_not_there_is_no_error(lazy_pair: Pair, tmp_path: Path) -> None:
    replica = {"AI_STACK_DATABASE_REPLICA_URL": "postgresql://postgres@/ours?host=/nonexistent"}
    made = ground(tmp_path, lazy_pair.url(NAME), "memory:", **replica)
    async with made.gateway() as gateway, made.client(gateway) as client:
        await _found_at_once(client, 3)
        assert (await outcomes(client)) == Counter({"behind": 3})


@pytest.fixture
def redises() -> Iterator[Redises]:
    with followers.redises() as made:
        yield made


async def mastered(redises: Redises, within_s: float = 20.0) -> None:
    """Wait until the sentinels know each other and the replica."""
    pipeline = Pipeline(Address.read(f"redis://127.0.0.1:{redises.sentinels[0]}"))
    async with asyncio.timeout(within_s):
        while True:
            try:
                told = await pipeline.call("INFO", "sentinel")
                if isinstance(told, bytes) and b"slaves=1,sentinels=3" in told:
                    break
            except Down:
                pass
            await asyncio.sleep(0.1)
    await pipeline.aclose()


async def test_sentinels_lead_to_the_master_that_there_is(redises: Redises) -> None:
    await mastered(redises)
    pipeline = Pipeline(Address.read(redises.url))
    assert await pipeline.call("SET", "a", "1") == b"OK"
    assert int((await pipeline.call("WAIT", 1, 1000)) or 0) == 1
    redises.kill(redises.sentinels[0])
    redises.kill(redises.master)
    killed_at = time.monotonic()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await pipeline.call("GET", "a") == b"1"
                break
            except Down:
                await asyncio.sleep(0.05)
    print(f"a new master after {time.monotonic() - killed_at:.2f} s")
    assert await pipeline.call("SET", "b", "2") == b"OK"
    await pipeline.aclose()


async def test_a_master_of_redis_that_is_killed_costs_a_few_seconds_of_sessions(
    redises: Redises, tmp_path: Path, database_url: str
) -> None:
    await mastered(redises)
    made = ground(tmp_path, database_url, redises.url)
    async with made.gateway("--workers", "2") as gateway:
        await gateway.until_said("2 processes answer")
        async with (
            calling(made, gateway, begin) as sessions,
            calling(made, gateway, read) as others,
        ):
            await asyncio.sleep(1.5)
            killed_at = time.monotonic()
            redises.kill(redises.master)
            await asyncio.sleep(7)
    print(f"sessions: {sessions.statuses}, {sessions.silence_s(killed_at):.2f} s without one")
    print(f"all else: {others.statuses}, {others.silence_s(killed_at):.2f} s without one")
    assert {*others.statuses} == {"200"}
    assert {*sessions.statuses} <= {"201", "503"}
    assert sessions.silence_s(killed_at) < 8
    assert others.silence_s(killed_at) < 2


async def begin(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.post("/sessions", json={"model": "memory", "metadata": {"name": name}})


async def read(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.post("/search/semantic", json={"query": name, "mode": "keyword"})


@pytest.mark.parametrize(
    "wrong", ["redis+sentinel://127.0.0.1:1", "redis+sentinel:///ours", "redis+cluster://a:1"]
)
async def test_a_url_that_leads_nowhere_is_told(
    tmp_path: Path, database_url: str, wrong: str
) -> None:
    made = ground(tmp_path, database_url, wrong)
    async with made.running("serve") as gateway:
        assert await gateway.ended() == 2
        assert "redis" in gateway.said() and "Traceback" not in gateway.said()
