"""An HTTP/1.1 client of one origin, made for the hot path; it knows no engine.

No redirect is followed, no compression asked for, no proxy used. Deadlines are the caller's.
"""

import asyncio
import ssl
import time
from collections.abc import Coroutine, Mapping
from functools import lru_cache
from typing import cast

import httptools

from ai_stack.addresses import Addresses
from ai_stack.engines.origin import Origin
from ai_stack.errors import EngineBroken, EngineFailed, EngineUnavailable, TooBusy
from ai_stack.models.traces import Place

MAX_HEAD_BYTES = 64 << 10
MAX_BODY_BYTES = 64 << 20
HIGH_WATER_BYTES = 256 << 10
CONNECT_TIMEOUT_S = 5.0
STALE_S = 30.0
CONNECTIONS = 1024
BODY_FOLLOWS = ("Content-Type: application/json", "Content-Length: ")


class Answer:
    """The answer to one request: its head, and its body as it comes from the socket.

    Whoever got it reads it to its end or closes it; closing before the end aborts the connection.
    """

    status = 0
    _size = 0
    _ended = False
    _error: EngineFailed | None = None
    _waiter: "asyncio.Future[None] | None" = None

    def __init__(self, connection: "Connection") -> None:
        self.headers: dict[bytes, bytes] = {}
        self._connection = connection
        self._chunks: list[bytes] = []

    @property
    def media_type(self) -> str:
        return _media_type(self.headers.get(b"content-type", b"")[:256])

    def __aiter__(self) -> "Answer":
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._taken()

    async def read(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole body; EngineFailed when it is larger than `limit` bytes."""
        parts = []
        size = 0
        async for part in self:
            parts.append(part)
            size += len(part)
            if size > limit:
                self.abort()
                raise EngineFailed("The engine's answer is larger than any that is expected.")
        return b"".join(parts)

    async def aclose(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._ended:
            self._ended = True
            self._connection.abort()
        self._chunks.clear()

    def _taken(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        if self.is_full and not self._ended:
            self._connection.resume()
        self._size = 0
        return data

    def put(self, data: bytes) -> None:
        """More of the body came."""
        self._chunks.append(data)
        self._size += len(data)
        self._wake()

    @property
    def is_full(self) -> bool:
        return self._size > HIGH_WATER_BYTES

    def end(self, error: EngineFailed | None = None) -> None:
        """Nothing more will come; with an error, the body is incomplete."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """One connection: requests one after another, each answered before the next is sent.

    Its methods named on_… are called by the parser, and must not raise.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self.loop = asyncio.get_running_loop()  # asked for each time, it costs a system call
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._head: asyncio.Future[Answer] | None = None
        self._unread = 0
        self._complete = self._keep = self._desynchronised = self._paused = self.closed = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.closed:
            self._transport.abort()

    def request(self, head: bytes, body: bytes) -> "asyncio.Future[Answer]":
        """Send a request; the future yields its answer as soon as its head is here."""
        assert self._transport is not None
        self._answer = Answer(self)
        self._unread, self._complete = 0, False
        self._head = self.loop.create_future()
        self._transport.write(head + body if len(body) < 65536 else head)
        if len(body) >= 65536:
            self._transport.write(body)
        return self._head

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nothing was asked
            return self.abort()
        self._unread += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._keep = False  # whatever follows a whole answer is dropped
            if not self._complete:
                return self._fail("The engine's answer is not of HTTP's form.")
        if self._complete:
            return self._finish(answer)
        if self._unread > MAX_HEAD_BYTES:
            return self._fail("The head of the engine's answer is too large.")
        if answer.is_full and not self._paused:
            self._pause()
        return None

    def on_message_begin(self) -> None:
        self._desynchronised = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is not None and not answer.status:
            answer.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None or self._complete:
            return
        if status < 200:  # an interim answer; the true one follows
            answer.headers.clear()
            return
        answer.status = status
        if self._head is not None and not self._head.done():
            self._head.set_result(answer)

    def on_body(self, data: bytes) -> None:
        if self._answer is not None and not self._complete:
            self._unread = 0
            self._answer.put(data)

    def on_message_complete(self) -> None:
        if self._answer is not None and self._answer.status and not self._complete:
            self._complete, self._keep = True, self._parser.should_keep_alive()

    def _finish(self, answer: Answer) -> None:
        self._answer = self._head = None
        answer.end()
        if not self._keep or self._desynchronised:
            return self.abort()
        self.resume()
        self._client.give_back(self)
        return None

    def _pause(self) -> None:
        assert self._transport is not None
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self.closed and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _fail(self, message: str) -> None:
        self._end(EngineFailed(message), EngineBroken(message))
        self.abort()

    def _end(self, early: EngineFailed | EngineUnavailable, late: EngineFailed | None) -> None:
        """End what was asked for: with `early` before the answer's head is here, else `late`."""
        answer, head = self._answer, self._head
        self._answer = self._head = None
        if answer is not None and answer.status:
            answer.end(late)
        elif head is not None and not head.done():
            head.set_exception(early)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        broken = EngineBroken()
        if self._unread and self._answer is not None and not self._answer.status:
            self._end(EngineFailed("The engine broke off in the head of its answer."), broken)
        else:
            ends_so = exc is None and self._answer is not None and _until_close(self._answer)
            self._end(EngineUnavailable(), None if ends_so else broken)
        self._client.lost(self)

    def abort(self) -> None:
        self.closed = True
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    def drop(self) -> None:
        """End the connection, and with it whatever waits for it."""
        self._end(EngineUnavailable(), EngineBroken())
        self.abort()


@lru_cache(64)
def _media_type(told: bytes) -> str:
    return told.partition(b";")[0].strip().lower().decode("latin-1")


def _until_close(answer: Answer) -> bool:
    """Whether the end of the connection is what ends this answer."""
    headers = answer.headers
    return b"content-length" not in headers and not headers.get(
        b"transfer-encoding", b""
    ).lower().rstrip().endswith(b"chunked")


class Client:
    """Keeps connections to one origin alive and sends requests over them.

    Raises EngineUnavailable when no connection can be had or it closes without an answer,
    TooBusy when `connections` are in use, EngineFailed for what is no answer.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        headers: Mapping[str, str] | None = None,
        connections: int = CONNECTIONS,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.origin = origin
        self._headers = dict(headers or {})
        self._connections, self._connect_timeout_s = connections, connect_timeout_s
        self._heads: dict[tuple[str, str], bytes] = {}
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting = 0
        self._closed = False
        self._tls = tls
        self._addresses = Addresses(origin.host)

    def get(self, path: str) -> Coroutine[None, None, Answer]:
        return self._answered(self._head("GET", path) + b"\r\n", b"")

    def post(
        self, path: str, body: bytes, trace: Place | None = None
    ) -> Coroutine[None, None, Answer]:
        """The answer to a JSON body; `path` is one of few, since its head is kept."""
        told = b"" if trace is None else b"traceparent: %s\r\n" % trace.header.encode()
        head = b"%s%d\r\n%s\r\n" % (self._head("POST", path), len(body), told)
        return self._answered(head, body)

    async def _answered(self, head: bytes, body: bytes, *, anew: bool = False) -> Answer:
        kept = None if anew else self._reusable()
        connection = kept or await self._connected()
        try:
            answer = await connection.request(head, body)
        except asyncio.CancelledError:
            connection.abort()
            raise
        except EngineUnavailable:
            if kept is None or self._closed:
                raise
            # The server closed it meanwhile, and answered nothing.
            return await self._answered(head, body, anew=True)
        if answer.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            answer.abort()
            raise EngineFailed("The engine's answer is compressed, which was not asked for.")
        return answer

    def _reusable(self) -> Connection | None:
        oldest = time.monotonic() - STALE_S
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connected(self) -> Connection:
        if len(self._open) + self._connecting >= self._connections:
            raise TooBusy("Too many requests are with this engine already; try again shortly.")
        self._connecting += 1
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._addresses.met(self._dialled)
        except (OSError, UnicodeError) as error:
            raise EngineUnavailable from error
        finally:
            self._connecting -= 1
        return connection

    async def _dialled(self, address: str) -> Connection:
        loop, origin = asyncio.get_running_loop(), self.origin
        if origin.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        name = None if self._tls is None else origin.host
        connection = Connection(self)
        try:
            await loop.create_connection(
                lambda: connection, address, origin.port, ssl=self._tls, server_hostname=name
            )
        except BaseException:
            connection.abort()
            raise
        self._open.add(connection)
        return connection

    def _head(self, method: str, path: str) -> bytes:
        """A request's head as far as it is known before its body."""
        head = self._heads.get((method, path))
        if head is None:
            head = self._heads[method, path] = self._composed(method, path)
        return head

    def _composed(self, method: str, path: str) -> bytes:
        lines = [
            f"{method} {self.origin.base}{path} HTTP/1.1",
            f"Host: {self.origin.authority}",
            "User-Agent: ai-stack",
            "Accept-Encoding: identity",
            *([f"Authorization: Bearer {self.origin.key}"] if self.origin.key else ()),
            *(f"{name}: {value}" for name, value in self._headers.items()),
            *(BODY_FOLLOWS if method == "POST" else ("",)),
        ]
        return "\r\n".join(lines).encode("ascii")

    def give_back(self, connection: Connection) -> None:
        """A connection whose answer has come whole, to be used again."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def aclose(self) -> None:
        """Drop every connection, also those in use."""
        self._closed = True
        self._addresses.close()
        self._idle.clear()
        for connection in tuple(self._open):
            connection.drop()
