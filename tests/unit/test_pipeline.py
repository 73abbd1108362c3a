"""What the connection to Redis sends together."""

import asyncio
from typing import Any

from ai_stack.caches.pipeline import LINGER_S, _Link


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
