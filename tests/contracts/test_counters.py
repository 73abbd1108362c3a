"""What every set of counters does, in memory and in a real Redis without scripting."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

import servers
from ai_stack.caches.counters import Count, Counters, RedisCounters, Taken, open_counters
from ai_stack.caches.pipeline import Address, Pipeline
from ai_stack.errors import Unavailable

NO_SCRIPTING = ("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-@scripting")


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Redis]:
    with servers.redis(*NO_SCRIPTING) as started:
        yield started


def url_of(server: servers.Redis) -> str:
    return f"unix://{server.socket}"


@pytest.fixture(params=["memory", "redis"])
async def counters(request: pytest.FixtureRequest) -> AsyncIterator[Counters]:
    url = "memory:" if request.param == "memory" else url_of(request.getfixturevalue("server"))
    opened = open_counters(url)
    yield opened
    await opened.aclose()


async def test_a_counter_grants_up_to_its_most(counters: Counters) -> None:
    seen = [await counters.take(Count("up", 10, 4, 60)) for _ in range(4)]
    assert seen == [Taken(4, 4), Taken(4, 8), Taken(0, 8), Taken(0, 8)]
    assert await counters.take(Count("up", 10, 2, 60)) == Taken(2, 10)
    assert await counters.take(Count("up", 10, 1, 60)) == Taken(0, 10)


async def test_one_that_allows_nothing_grants_nothing(counters: Counters) -> None:
    assert await counters.take(Count("none", 0, 1, 60)) == Taken(0, 0)


async def test_what_is_added_may_be_more_than_it_allows_and_less(counters: Counters) -> None:
    await counters.add([Count("added", 10, 25, 60)])
    assert await counters.take(Count("added", 10, 1, 60)) == Taken(0, 10)
    await counters.add([Count("added", 10, -4, 60)])
    assert await counters.take(Count("added", 10, 4, 60)) == Taken(4, 10)


async def test_the_largest_numbers_are_counted_as_they_are(counters: Counters) -> None:
    most = 10**15
    assert await counters.take(Count("large", most, most - 1, 60)) == Taken(most - 1, most - 1)
    assert await counters.take(Count("large", most, 2, 60)) == Taken(0, most - 1)
    assert await counters.take(Count("large", most, 1, 60)) == Taken(1, most)


async def test_a_counter_ends(counters: Counters) -> None:
    assert (await counters.take(Count("ends", 1, 1, 1))).granted
    await asyncio.sleep(1.2)
    assert (await counters.take(Count("ends", 1, 1, 1))).granted


async def test_of_many_at_once_no_more_are_granted_than_allowed(counters: Counters) -> None:
    counts = [Count("many", 700, 1 + n % 3, 60) for n in range(1000)]
    taken = await asyncio.gather(*(counters.take(count) for count in counts))
    granted = sum(t.granted for t in taken)
    left = 0
    while (await counters.take(Count("many", 700, 1, 60))).granted:
        left += 1
    assert granted + left == 700


async def test_gateways_share_a_counter_exactly(server: servers.Redis) -> None:
    gateways = [open_counters(url_of(server)) for _ in range(5)]

    async def ask(gateway: Counters) -> int:
        return sum([(await gateway.take(Count("shared", 1234, 1, 60))).granted for _ in range(20)])

    tasks = [ask(gateway) for gateway in gateways for _ in range(40)]
    assert sum(await asyncio.gather(*tasks)) == 1234
    for gateway in gateways:
        await gateway.aclose()


async def test_every_key_in_the_server_has_an_end(server: servers.Redis) -> None:
    counters = open_counters(url_of(server))
    await counters.take(Count("kept", 5, 1, 60))
    await counters.take(Count("refused", 0, 1, 60))
    await counters.add([Count("added-only", 5, -2, 60)])
    pipeline = Pipeline(Address.read(url_of(server)))
    keys = await pipeline.call("KEYS", "*")
    assert isinstance(keys, list)
    lives = [await pipeline.call("TTL", key) for key in keys if isinstance(key, bytes)]
    assert lives
    assert -1 not in lives  # which has no end; -2 ended meanwhile
    await pipeline.aclose()
    await counters.aclose()


async def test_a_counter_that_is_evicted_meanwhile_is_told(server: servers.Redis) -> None:
    """It would else be counted from nothing, and never end."""

    class Losing(Pipeline):
        async def together(self, commands):  # type: ignore[no-untyped-def]
            lost = [command for command in commands if command[0] != "SET"]
            answers = await super().together(lost)
            return [answer for one in answers for answer in (b"OK", one)]

    counters = RedisCounters(Losing(Address.read(url_of(server))))
    with pytest.raises(Unavailable):
        await counters.take(Count("evicted", 5, 1, 60))
    sound = open_counters(url_of(server))
    assert await sound.take(Count("evicted", 5, 1, 60)) == Taken(1, 1)
    await counters.aclose()
    await sound.aclose()


async def test_a_dead_server_is_told_soon_and_comes_back(server: servers.Redis) -> None:
    counters = open_counters(url_of(server))
    count = Count("dead", 5, 1, 60)
    await counters.take(count)
    server.kill()
    started = time.monotonic()
    for _ in range(50):
        with pytest.raises(Unavailable, match="Redis does not answer"):
            await counters.take(count)
    with pytest.raises(Unavailable):
        await counters.add([count])
    assert time.monotonic() - started < 1
    server.start()
    await asyncio.sleep(0.6)
    assert (await counters.take(count)).granted
    await counters.aclose()
