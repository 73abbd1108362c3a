"""One answer on its way from an engine to its readers.

The first reader is the host: it draws the chunks from the source in its own task, which costs
nothing more than reading them. What it draws is kept for followers, equal requests that came
meanwhile and read from the beginning. So the relay is single flight, cancellation (the host stops
when it and the last follower have left) and back-pressure (the host waits while the slowest
follower is CAP behind). What is kept is bounded: above CAP the relay lets go of what all have
read, is joined no more, and its answer is not cached.
"""

import asyncio
from collections.abc import AsyncIterator
from math import inf

from ai_stack.errors import AIStackError, DeadlineExceeded, Unavailable
from ai_stack.services.inference.work import LATE, Work

CAP = 4 << 20


class Relay:
    """Drawn from by its host, in the task that made it; one that is `shared` keeps what came.

    `abandoned`: its host was cancelled, so that the answer fails for no reason of its own.
    """

    def __init__(self, work: Work, *, shared: bool, timeout_s: float = inf) -> None:
        self.work = work
        self.timeout_s = timeout_s
        self.abandoned = False
        self.is_whole = shared
        self.error: AIStackError | None = None
        self.ended = self.left = self._drawing = False
        self._chunks: list[bytes] = []
        self._dropped = self._size_bytes = 0
        self._followers: set[Follower] = set()
        self._moved: asyncio.Event | None = None
        self._closing: asyncio.Task[None] | None = None
        self._host = asyncio.current_task()

    async def draw(self) -> bytes | None:
        """The host's next chunk, None at the end; raises as the work does."""
        self._drawing = True
        try:
            data = await self.work.draw()
        except AIStackError as error:
            self._end(error)
            raise
        finally:
            self._drawing = False
        if data is not None and (self.is_whole or self._followers):
            self._chunks.append(data)
            self._size_bytes += len(data)
            self._wake()
            if self._size_bytes > CAP:
                await self._make_room()
        if self.work.over:
            self._end()
        return data

    def _end(self, error: AIStackError | None = None) -> None:
        """Nothing more comes."""
        if not self.ended:
            self.ended, self.error = True, error
            self._wake()
            self._progress()

    @property
    def over(self) -> bool:
        """Whether it has ended, and its work too."""
        return self.ended and self.work.over

    def whole(self) -> bytes:
        """All that came; only while `is_whole`."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def _make_room(self) -> None:
        """Return when the slowest follower is near enough."""
        self.is_whole = False
        self._trim()
        while self._size_bytes > CAP and not self.ended:
            self._moved = asyncio.Event()
            await self._moved.wait()
            self._trim()

    def _trim(self) -> None:
        """Let go of what every follower has read."""
        read = min((f.cursor for f in self._followers), default=self._dropped + len(self._chunks))
        behind = read - self._dropped
        self._size_bytes -= sum(map(len, self._chunks[:behind]))
        del self._chunks[:behind]
        self._dropped += behind

    def _wake(self) -> None:
        for follower in self._followers:
            follower.wake()

    def expire(self) -> None:
        """Its time is over, for the host and all others.

        A host that is not drawing waits for a client that does not read: the engine is given back
        without it.
        """
        self.work.expired = True
        if self._host is not None and self._drawing:
            self._host.cancel()
        elif not self.ended:
            self._end(DeadlineExceeded(LATE))
            self._closing = asyncio.create_task(self.work.aclose())

    def leave(self) -> None:
        """The host's client has gone; the host goes on for as long as others follow."""
        self.left = True
        if not self._followers and not self.ended and self._host is not None:
            self._host.cancel()

    async def aclose(self) -> None:
        """The host has stopped; whoever still follows is told."""
        await self.work.aclose()
        if not self.ended:
            self.abandoned = True
            self._end(Unavailable("The request that drew this answer has ended; try again."))

    def follow(self) -> "Follower":
        """One more reader, from the beginning; only while `is_whole`."""
        follower = Follower(self)
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: "Follower") -> None:
        """One follower less."""
        self._followers.discard(follower)
        self._progress()
        if self.left:
            self.leave()

    def _progress(self) -> None:
        if self._moved is not None:
            self._moved.set()

    @property
    def count(self) -> int:
        """The chunks that have come so far."""
        return self._dropped + len(self._chunks)

    def read(self, follower: "Follower") -> bytes | None:
        """What a follower has not read yet, joined; None when it has read all."""
        found = self._chunks[follower.cursor - self._dropped :]
        follower.cursor = self.count
        self._progress()
        return b"".join(found) if found else None


class Follower:
    """A place in an answer that another request's host draws."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.cursor = 0
        self.expired = False
        self._waiting: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def expire(self) -> None:
        """Its own time is over, whatever the host's."""
        self.expired = True
        self.wake()

    async def begun(self) -> None:
        """Return when there is something to read; raises the error of an answer without any."""
        while self.relay.count == 0 and not self.relay.ended:
            await self._wait()
        if self.relay.count == 0 and self.relay.error is not None:
            raise self.relay.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            data = self.relay.read(self)
            if data is not None:
                yield data
            elif self.relay.ended:
                break
            else:
                await self._wait()
        if self.relay.error is not None:
            raise self.relay.error

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None
        if self.expired:
            raise DeadlineExceeded(LATE)

    def leave(self) -> None:
        self.relay.unfollow(self)
