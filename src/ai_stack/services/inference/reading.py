"""An answer as its one client reads it, wherever it comes from."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from ai_stack.models.departure import Departure
from ai_stack.services.inference.relay import Follower, Relay

STREAM, JSON = "text/event-stream", "application/json"


@dataclass(slots=True)
class Answer:
    """An answer that has begun: read once, by iteration or as a whole, and then closed.

    Iterating raises AIStackError when the engine breaks off. This one is there already.
    """

    media_type: str = JSON
    engine: str | None = None
    cached: bool = False
    body: bytes = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body

    async def whole(self) -> bytes:
        """The answer in one piece."""
        return self.body

    async def aclose(self) -> None:
        """Nobody reads it any more."""


class Expiry(Protocol):
    """What is to be done when a time is over, unless it is cancelled before."""

    def cancel(self) -> None: ...


class Expiries:
    """Expiries after one and the same time, which share a timer of the loop.

    They are due in the order in which they came. A timer for each costs more than all else that
    is noted of a request.
    """

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self._waiting: dict[Due, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Callable[[], object]) -> "Due":
        """Have something done when the time is over."""
        due = Due(call, self._waiting)
        self._waiting[due] = monotonic() + self.after_s
        if self._timer is None:
            self._arm(self.after_s)
        return due

    def _arm(self, after_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(after_s, self._look)

    def _look(self) -> None:
        self._timer = None
        while self._waiting:
            due, at = next(iter(self._waiting.items()))
            left_s = at - monotonic()
            if left_s > 0:
                self._arm(left_s)
                return
            due.cancel()
            due.call()


@dataclass(slots=True, eq=False)
class Due:
    """One of them."""

    call: Callable[[], object]
    waiting: "dict[Due, float]"

    def cancel(self) -> None:
        self.waiting.pop(self, None)


@dataclass(slots=True, kw_only=True)
class Hosted(Answer):
    """An answer that this reader draws from the engine, for itself and for those that follow."""

    relay: Relay
    departure: Departure | None
    expiry: Expiry
    closed: Callable[[], Awaitable[None]]

    async def begin(self) -> None:
        """Have the answer begin; raises AIStackError when it does not."""
        if self.departure is not None:
            self.departure.add(self.relay.leave)
        try:
            self.body = await self.relay.draw() or b""
        except BaseException:
            await self.aclose()
            raise
        self.engine = self.relay.work.record.engine

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body
        while not self.relay.ended and (data := await self.relay.draw()) is not None:
            yield data
        if self.relay.error is not None:  # it ended while its client did not read
            raise self.relay.error

    async def whole(self) -> bytes:
        if self.relay.error is not None:
            raise self.relay.error
        if self.relay.ended:
            return self.body
        parts = [self.body]
        while (data := await self.relay.draw()) is not None:
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        self.expiry.cancel()
        if self.departure is not None:
            self.departure.remove(self.relay.leave)
        if not self.relay.over:
            await self.relay.aclose()
        await self.closed()


@dataclass(slots=True, kw_only=True)
class Followed(Answer):
    """An answer that another equal request draws."""

    follower: Follower
    departure: Departure | None
    expiry: Expiry
    cancel: Callable[[], object]

    async def begin(self) -> None:
        if self.departure is not None:
            self.departure.add(self.cancel)
        try:
            await self.follower.begun()
        except BaseException:
            await self.aclose()
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self.follower:
            yield data

    async def whole(self) -> bytes:
        return b"".join([data async for data in self.follower])

    async def aclose(self) -> None:
        self.expiry.cancel()
        if self.departure is not None:
            self.departure.remove(self.cancel)
        self.follower.leave()
