"""What every cache does, in memory and in a real Redis."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

import servers
from ai_stack.caches import Cache, open_cache
from ai_stack.errors import Unavailable


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Redis]:
    with servers.redis("--requirepass", "s:e/c", "--databases", "4") as started:
        yield started


def url_of(server: servers.Redis) -> str:
    return f"unix://:s%3Ae%2Fc@{server.socket}?db=3"


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    url = "memory:" if request.param == "memory" else url_of(request.getfixturevalue("server"))
    opened = open_cache(url)
    yield opened
    await opened.aclose()


async def test_gives_back_what_was_set_byte_for_byte(cache: Cache) -> None:
    value = bytes(range(256)) * 4000 + b"\r\n$-1\r\n"
    await cache.set("key", value, 60)
    assert await cache.get("key") == value
    assert await cache.get("other") is None


async def test_forgets_after_its_time(cache: Cache) -> None:
    await cache.set("short", b"1", 1)
    assert await cache.get("short") == b"1"
    await asyncio.sleep(1.2)
    assert await cache.get("short") is None


async def test_answers_many_callers_in_their_own_order(cache: Cache) -> None:
    await asyncio.gather(*(cache.set(f"n{n}", str(n).encode(), 60) for n in range(500)))
    found = await asyncio.gather(*(cache.get(f"n{n}") for n in range(500)))
    assert found == [str(n).encode() for n in range(500)]


async def test_a_caller_that_leaves_does_not_shift_the_answers(cache: Cache) -> None:
    await asyncio.gather(*(cache.set(f"m{n}", str(n).encode(), 60) for n in range(50)))
    tasks = [asyncio.create_task(cache.get(f"m{n}")) for n in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found[1::2] == [str(n).encode() for n in range(1, 50, 2)]
    assert await cache.get("m7") == b"7"


async def test_a_generation_stays_until_it_is_renewed(cache: Cache) -> None:
    first = await cache.generation("scope")
    assert first is not None
    assert await cache.generation("scope") == first
    await cache.renew("scope")
    assert await cache.generation("scope") != first


async def test_a_dead_server_is_a_miss_and_is_found_again(server: servers.Redis) -> None:
    cache = open_cache(url_of(server))
    await cache.set("key", b"1", 60)
    server.kill()
    started = time.monotonic()
    assert [await cache.get("key") for _ in range(100)] == [None] * 100
    with pytest.raises(Unavailable):
        await cache.ping()
    assert time.monotonic() - started < 1
    server.start()
    await _until_answers(cache)
    await cache.aclose()


async def test_a_server_that_stands_still_costs_one_short_wait(server: servers.Redis) -> None:
    cache = open_cache(url_of(server))
    await cache.set("key", b"1", 60)
    server.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert await asyncio.gather(*(cache.get("key") for _ in range(100))) == [None] * 100
        assert [await cache.get("key") for _ in range(100)] == [None] * 100
        assert time.monotonic() - started < 1
    finally:
        server.process.send_signal(signal.SIGCONT)
    await _until_answers(cache)
    await cache.aclose()


async def test_a_wrong_password_is_a_miss(server: servers.Redis) -> None:
    cache = open_cache(f"unix://:wrong@{server.socket}")
    assert await cache.get("key") is None
    await cache.aclose()


async def _until_answers(cache: Cache) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                return await cache.ping()
            except Unavailable:
                await asyncio.sleep(0.05)
