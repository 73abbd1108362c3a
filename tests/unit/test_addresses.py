"""Where a name leads, while its resolver answers, fails and stands still."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from ai_stack import addresses
from ai_stack.addresses import Addresses
from ai_stack.caches.pipeline import Address, Pipeline


class Resolver:
    """Tells what it is made to tell, or stands still."""

    def __init__(self) -> None:
        self.told: Sequence[str] | Exception | None = ("10.0.0.1",)
        self.asked = 0

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked += 1
        if self.told is None:
            await asyncio.Event().wait()
        if isinstance(self.told, Exception):
            raise self.told
        await asyncio.sleep(0)
        return self.told or ()


def only(place: str) -> Callable[[str], Awaitable[str]]:
    """A dialler that meets somebody at one address."""

    async def dial(address: str) -> str:
        if address != place:
            raise OSError(f"nobody at {address}")
        return f"met at {address}"

    return dial


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver()
    monkeypatch.setattr(addresses, "resolved", made)
    return made


async def test_many_who_ask_at_once_are_told_by_one_lookup(resolver: Resolver) -> None:
    found = Addresses("engine")
    assert await asyncio.gather(*(found.find() for _ in range(9))) == [("10.0.0.1",)] * 9
    assert resolver.asked == 1


async def test_an_address_is_not_looked_up(resolver: Resolver) -> None:
    for address in ("127.0.0.1", "::1"):
        fixed = Addresses(address)
        assert await fixed.find() == (address,)
    assert resolver.asked == 0


@pytest.mark.parametrize("told", [OSError("no such name"), None])
async def test_what_was_known_serves_while_nobody_tells(
    resolver: Resolver, told: Exception | None
) -> None:
    found = Addresses("engine")
    await found.find()
    resolver.told = told
    with pytest.raises(OSError, match="nobody"):
        await found.met(only("nowhere"))
    assert await found.find() == ("10.0.0.1",)
    found.close()


async def test_where_nobody_was_met_is_looked_up_again(resolver: Resolver) -> None:
    found = Addresses("engine")
    await found.find()
    resolver.told = ("10.0.0.2", "10.0.0.3")
    assert await found.find() == ("10.0.0.1",)
    with pytest.raises(OSError, match=r"nobody at 10\.0\.0\.1"):
        await found.met(only("10.0.0.3"))
    assert await found.met(only("10.0.0.3")) == "met at 10.0.0.3"


async def test_a_name_that_never_led_anywhere_is_an_error(resolver: Resolver) -> None:
    resolver.told = OSError("no such name")
    with pytest.raises(OSError, match="no such name"):
        await Addresses("engine").find()


async def test_one_who_leaves_while_it_is_looked_up_takes_nothing_with_him(
    resolver: Resolver,
) -> None:
    resolver.told = None
    found = Addresses("engine")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await found.find()
    assert resolver.asked == 1
    found.close()


async def test_a_redis_is_met_in_its_time_while_the_resolver_stands_still(
    resolver: Resolver,
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    pipeline = Pipeline(Address.read(f"redis://redis:{server.sockets[0].getsockname()[1]}"))
    resolver.told = ("127.0.0.1",)
    await pipeline._places["redis"].find()
    pipeline._places["redis"]._known_at = float("-inf")  # it was long ago
    resolver.told = None
    assert await pipeline.call("PING") == b"PONG"
    assert resolver.asked == 2
    await pipeline.aclose()
    server.close()


async def test_the_systems_resolver_is_asked() -> None:
    assert "127.0.0.1" in await addresses.resolved("localhost")
