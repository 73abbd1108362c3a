"""What every store of conversations does, in memory and in a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

import servers
from ai_stack.caches.conversations import Conversations, open_conversations
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
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[Conversations]:
    url = "memory:" if request.param == "memory" else url_of(request.getfixturevalue("server"))
    opened = open_conversations(url)
    yield opened
    await opened.aclose()


async def test_a_conversation_is_its_head_and_its_turns(kept: Conversations) -> None:
    await kept.create("turns", "a", b"head\0\r\n", 60)
    for turn in (b"one", b"", b"three\xff"):
        assert await kept.append("turns", "a", turn, 60)
    found = await kept.read("turns", "a")
    assert found is not None
    assert (found.head, list(found.turns)) == (b"head\0\r\n", [b"one", b"", b"three\xff"])


async def test_of_turns_at_once_none_is_lost(kept: Conversations) -> None:
    await kept.create("many", "a", b"head", 60)
    turns = [str(n).encode() for n in range(300)]
    assert all(await asyncio.gather(*(kept.append("many", "a", t, 60) for t in turns)))
    found = await kept.read("many", "a")
    assert found is not None
    assert sorted(found.turns) == sorted(turns)


async def test_nothing_is_added_to_what_is_not_there(kept: Conversations) -> None:
    assert not await kept.append("absent", "a", b"turn", 60)
    assert await kept.read("absent", "a") is None
    assert await kept.page("absent", 10, None) == []


async def test_scopes_do_not_see_each_other(kept: Conversations) -> None:
    await kept.create("mine", "a", b"head", 60)
    assert await kept.read("yours", "a") is None
    assert not await kept.append("yours", "a", b"turn", 60)
    assert not await kept.delete("yours", "a")
    assert await kept.page("yours", 10, None) == []
    assert await kept.read("mine", "a") is not None


async def test_a_page_has_the_latest_first_and_goes_on(kept: Conversations) -> None:
    for n in range(7):
        await kept.create("pages", f"id{n}", b"h%d" % n, 60)
    await kept.append("pages", "id5", b"said", 60)
    first = await kept.page("pages", 3, None)
    assert [(o.id, o.head, o.last, o.turns) for o in first] == [
        ("id6", b"h6", None, 0),
        ("id5", b"h5", b"said", 1),
        ("id4", b"h4", None, 0),
    ]
    assert [o.id for o in await kept.page("pages", 3, "id4")] == ["id3", "id2", "id1"]
    assert [o.id for o in await kept.page("pages", 3, "id1")] == ["id0"]


async def test_one_that_is_deleted_is_gone(kept: Conversations) -> None:
    await kept.create("deleted", "a", b"head", 60)
    assert await kept.delete("deleted", "a")
    assert not await kept.delete("deleted", "a")
    assert await kept.read("deleted", "a") is None
    assert await kept.page("deleted", 10, None) == []


async def test_its_time_begins_anew_with_each_turn(kept: Conversations) -> None:
    for id in ("a", "b", "c"):
        await kept.create("time", id, b"head", 1 if id != "c" else 60)
    await kept.append("time", "a", b"turn", 60)
    await asyncio.sleep(1.2)
    assert await kept.read("time", "a") is not None
    assert await kept.read("time", "b") is None
    assert not await kept.append("time", "b", b"turn", 60)
    assert [o.id for o in await kept.page("time", 2, None)] == ["c", "a"]


async def test_every_key_in_the_server_has_an_end(server: servers.Redis) -> None:
    kept = open_conversations(url_of(server))
    await kept.create("ends", "a", b"head", 60)
    await kept.append("ends", "a", b"turn", 60)
    pipeline = Pipeline(Address.read(url_of(server)))
    keys = await pipeline.call("KEYS", "*")
    assert isinstance(keys, list)
    assert keys
    lives = [await pipeline.call("TTL", key) for key in keys if isinstance(key, bytes)]
    assert all(isinstance(left, int) and left > 0 for left in lives)
    await pipeline.aclose()
    await kept.aclose()


async def test_a_dead_server_is_told(server: servers.Redis) -> None:
    kept = open_conversations(url_of(server))
    await kept.create("dead", "a", b"head", 60)
    server.kill()
    started = time.monotonic()
    for call in (
        kept.read("dead", "a"),
        kept.append("dead", "a", b"turn", 60),
        kept.create("dead", "b", b"head", 60),
        kept.page("dead", 10, None),
        kept.delete("dead", "a"),
    ):
        with pytest.raises(Unavailable, match="Redis does not answer"):
            await call
    assert time.monotonic() - started < 1
    server.start()
    await kept.aclose()
