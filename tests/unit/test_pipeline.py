"""What the connection to Redis sends together."""

import asyncio
from typing import Any

import hiredis
import pytest

from ai_stack.caches.pipeline import LINGER_S, Address, _Link
from ai_stack.errors import SettingsError


class Wire(asyncio.Transport):
    """Keeps what is written, each piece as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        return


def linked() -> tuple[_Link, Wire]:
    link, wire = _Link(lambda: None), Wire()
    link.connection_made(wire)
    return link, wire


async def test_what_nobody_waits_for_goes_with_what_somebody_asks() -> None:
    link, wire = linked()
    link.post(("SET", "a", "1"))
    await asyncio.sleep(0)
    assert wire.written == []
    found = link.send(("GET", "a"))
    await asyncio.sleep(0)
    assert len(wire.written) == 1
    assert wire.written[0].index(b"SET") < wire.written[0].index(b"GET")
    link.data_received(b"+OK\r\n$1\r\n1\r\n")
    assert await found == b"1"
    link.end()


async def test_it_does_not_wait_for_long() -> None:
    link, wire = linked()
    for value in ("1", "2"):
        link.post(("SET", "a", value))
    await asyncio.sleep(LINGER_S * 10)
    assert len(wire.written) == 1
    link.post(("SET", "a", "3"))
    await asyncio.sleep(LINGER_S * 10)
    assert len(wire.written) == 2
    link.post(("SET", "a", "4"))
    link.end()
    await asyncio.sleep(LINGER_S * 10)
    assert len(wire.written) == 2


def test_sentinels_are_read_from_a_url() -> None:
    url = "redis+sentinel://ann:s%40cret@a:1,b,[::1]:3/ours/2?sentinel_password=p%2Fw"
    found = Address.read(url)
    assert (found.master, found.tls) == ("ours", False)
    assert [(one.host, one.port) for one in found.sentinels] == [("a", 1), ("b", 26379), ("::1", 3)]
    assert found.opening == (("AUTH", "ann", "s@cret"), ("SELECT", "2"))
    assert {one.opening for one in found.sentinels} == {(("AUTH", "p/w"),)}
    over_tls = Address.read("rediss+sentinel://a/ours")
    assert over_tls.tls and over_tls.sentinels[0].tls
    assert (over_tls.opening, over_tls.sentinels[0].opening) == ((), ())


@pytest.mark.parametrize("wrong", ["redis+sentinel://a:1", "redis+sentinel:///ours"])
def test_sentinels_without_a_name_or_a_place_are_refused(wrong: str) -> None:
    with pytest.raises(SettingsError):
        Address.read(wrong)


async def test_a_server_that_has_become_a_replica_is_left() -> None:
    link, _ = linked()
    link.refused(hiredis.ReplyError("ERR unknown command"))
    assert not link.ended
    link.refused(hiredis.ReplyError("READONLY You can't write against a read only replica."))
    assert link.ended
