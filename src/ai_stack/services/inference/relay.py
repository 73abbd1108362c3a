"""One answer on its way from an engine to its readers: a list of chunks, and cursors into it.

The relay is single flight (a second reader starts from the beginning), cancellation (the source
ends when the last reader leaves) and back-pressure (the source waits while the slowest reader
is CAP behind). What it keeps is bounded: above CAP it lets go of what all have read, is joined
no more, and is not cached.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine

from ai_stack.errors import AIStackError

CAP = 4 << 20
SILENCE_S = 10.0


class Relay:
    """Fed by its source, a coroutine that gets the relay, and read by any number of readers.

    Readers of a `streamed` one get an empty chunk now and then while nothing comes.
    """

    def __init__(self, *, streamed: bool = False) -> None:
        self._streamed = streamed
        self._silence: asyncio.TimerHandle | None = None
        self.engine: str | None = None
        self.is_whole = True
        self.error: AIStackError | None = None
        self.ended = False
        self._chunks: list[bytes] = []
        self._dropped = 0
        self._size_bytes = 0
        self._readers: set[Reader] = set()
        self._task: asyncio.Task[None] | None = None
        self._moved: asyncio.Event | None = None

    def start(self, source: "Callable[[Relay], Coroutine[None, None, None]]") -> None:
        """Have the source feed it until it returns or raises; an AIStackError goes to readers."""
        self._task = asyncio.create_task(self._run(source))
        self._time_silence()

    def _time_silence(self) -> None:
        if self._streamed and not self.ended:
            loop = asyncio.get_running_loop()
            self._silence = loop.call_later(SILENCE_S, self._tick)

    def _tick(self) -> None:
        for reader in self._readers:
            reader.tick()
        self._time_silence()

    async def _run(self, source: "Callable[[Relay], Coroutine[None, None, None]]") -> None:
        try:
            await source(self)
        except AIStackError as error:
            if not self.ended:
                self.error = error
        except BaseException:
            self.error = AIStackError()  # what came is not the whole answer
            raise
        finally:
            self.end()

    def end(self) -> None:
        """All has come: readers need not wait for what the source does besides."""
        self.ended = True
        if self._silence is not None:
            self._silence.cancel()
        self._wake()

    async def feed(self, data: bytes) -> None:
        """Add what came; returns when the readers are near enough for more."""
        self._chunks.append(data)
        self._size_bytes += len(data)
        self._wake()
        while self._size_bytes > CAP:
            self.is_whole = False
            self._trim()
            if self._size_bytes <= CAP:
                return
            self._moved = asyncio.Event()
            await self._moved.wait()

    def _trim(self) -> None:
        """Let go of what every reader has read."""
        behind = min((r.cursor for r in self._readers), default=self._dropped) - self._dropped
        self._size_bytes -= sum(map(len, self._chunks[:behind]))
        del self._chunks[:behind]
        self._dropped += behind

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()

    def join(self) -> "Reader":
        """One more reader, from the beginning; only while `is_whole`."""
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    def leave(self, reader: "Reader") -> None:
        """One reader less; the source ends with the last."""
        self._readers.discard(reader)
        if not self._readers and self._task is not None and not self.ended:
            self._task.cancel()

    def after(self, cursor: int) -> bytes | None:
        """What came after a cursor, joined; None when nothing has."""
        found = self._chunks[cursor - self._dropped :]
        if self._moved is not None:
            self._moved.set()
        return (found[0] if len(found) == 1 else b"".join(found)) if found else None

    @property
    def count(self) -> int:
        """The chunks that have come so far."""
        return self._dropped + len(self._chunks)

    def whole(self) -> bytes:
        """All that came; only while `is_whole`."""
        return b"".join(self._chunks)


class Reader:
    """One reader's place; every call raises the source's error when it has read all before it."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.cursor = 0
        self._ticked = False
        self._waiting: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def tick(self) -> None:
        """Nothing came for a while."""
        self._ticked = True
        self.wake()

    async def begun(self) -> None:
        """Return when the first chunk is there, or the end, or nothing came for a while."""
        while self.relay.count == 0 and not self.relay.ended and not self._ticked:
            await self._wait()
        if self.relay.count == 0 and self.relay.error is not None:
            raise self.relay.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            data = self.relay.after(self.cursor)
            if data is not None:
                self.cursor, self._ticked = self.relay.count, False
                yield data
            elif self.relay.ended:
                break
            elif self._ticked:
                self._ticked = False
                yield b""
            else:
                await self._wait()
        if self.relay.error is not None:
            raise self.relay.error

    async def whole(self) -> bytes:
        """The answer in one piece."""
        return b"".join([data async for data in self])

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def leave(self) -> None:
        self.relay.leave(self)
