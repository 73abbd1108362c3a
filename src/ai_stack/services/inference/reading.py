"""An answer as its one client reads it, wherever it comes from."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

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


@dataclass(slots=True, kw_only=True)
class Hosted(Answer):
    """An answer that this reader draws from the engine, for itself and for those that follow."""

    relay: Relay
    departure: Departure | None
    expiry: asyncio.TimerHandle
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
        await self.relay.aclose()
        await self.closed()


@dataclass(slots=True, kw_only=True)
class Followed(Answer):
    """An answer that another equal request draws."""

    follower: Follower
    departure: Departure | None
    expiry: asyncio.TimerHandle
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
