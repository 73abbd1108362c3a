"""Tells when the client of a request has gone, so that work for it can stop.

The server's own connection says so at once. Under another server the request's messages are
awaited instead.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope


class Departure:
    """The end of one connection, and what is to be done then."""

    def __init__(self) -> None:
        self.gone = False
        self._calls: set[Callable[[], object]] = set()

    def happen(self) -> None:
        """The client has gone."""
        self.gone = True
        for call in tuple(self._calls):
            call()

    def add(self, call: Callable[[], object]) -> None:
        self._calls.add(call)
        if self.gone:
            call()

    def remove(self, call: Callable[[], object]) -> None:
        self._calls.discard(call)


@asynccontextmanager
async def until_departure(scope: Scope, receive: Receive) -> AsyncIterator[None]:
    """A block that is broken off when the client leaves; the body must have been received."""
    known = scope["state"].get("departure")
    departure = known if isinstance(known, Departure) else Departure()
    watch = None if known is departure else asyncio.create_task(_await_end(receive, departure))
    task = asyncio.current_task()
    assert task is not None
    departure.add(task.cancel)
    try:
        yield
    except asyncio.CancelledError:
        if not departure.gone or task.uncancel():
            raise
    finally:
        departure.remove(task.cancel)
        if watch is not None:
            watch.cancel()


async def _await_end(receive: Receive, departure: Departure) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    departure.happen()
