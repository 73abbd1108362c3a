"""Where a name leads: looked up once for all who ask, and remembered while no resolver tells.

A resolver that forgets a name for a while, or stands still, as those of containers do when their
neighbours change, takes away no server that is there (RFC 8767). Nor does it take all threads that
look names up: a lookup goes on when who asked for it has left, and no other begins beside it.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

FRESH_S = 5.0
PATIENT_S = 0.1  # far below the quarter of a second in which Redis has to be reached

T = TypeVar("T")


class Addresses:
    """The IP addresses of one host."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._known: Sequence[str] = ()
        self._known_at = float("-inf")
        self._error: Exception = OSError("no address is known")
        self._lookup: asyncio.Task[None] | None = None
        with suppress(ValueError):  # it may be an address itself
            self._known = (str(ipaddress.ip_address(host)),)
        self._is_fixed = bool(self._known)

    async def find(self) -> Sequence[str]:
        """In the resolver's order; OSError or UnicodeError where it has never told any."""
        loop = asyncio.get_running_loop()
        if not self._is_fixed and loop.time() - self._known_at > FRESH_S:
            if self._lookup is None or self._lookup.done():
                self._lookup = loop.create_task(self._look())
            await asyncio.wait({self._lookup}, timeout=PATIENT_S if self._known else None)
        if not self._known:
            raise self._error
        return self._known

    async def met(self, dial: Callable[[str], Awaitable[T]]) -> T:
        """What `dial` gives at the first address where it succeeds, else the last one's error.

        Where nobody was met, the next one who asks looks again. Raises as `find` and `dial` do.
        """
        failure = OSError("its name leads nowhere")
        for address in await self.find():
            try:
                return await dial(address)
            except OSError as error:
                failure = error
        self._known_at = float("-inf")
        raise failure

    async def _look(self) -> None:
        try:
            self._known = await resolved(self._host)
            self._known_at = asyncio.get_running_loop().time()
        except (OSError, UnicodeError) as error:
            self._error = error

    def close(self) -> None:
        """Nobody asks any more."""
        if self._lookup is not None:
            self._lookup.cancel()


async def resolved(host: str) -> Sequence[str]:
    """What the system's resolver tells of a name."""
    told = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(place[0]) for *_, place in told))
