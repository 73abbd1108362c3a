"""Calls to a child process over a unix socket; it does not know what is called.

A frame is two little-endian uint32 (header size, body size), a JSON header and a raw body.
Calls are multiplexed by an id, answered in any order, and cancelled when the caller leaves.
"""

import asyncio
import itertools
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ai_stack.errors import AIStackError, TooLarge, Unavailable

Handler = Callable[[Mapping[str, Any], bytes], Awaitable[tuple[Mapping[str, Any], bytes]]]

log = logging.getLogger("ai_stack.channel")

FRAME = struct.Struct("<II")
MAX_HEADER, MAX_BODY = 64 << 20, 256 << 20


class Channel:
    """A client of one child; connects when first called and again after the child restarts."""

    def __init__(self, path: Path, *, timeout_s: float = 30.0) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def call(
        self, method: str, body: bytes = b"", *, timeout_s: float | None = None, **arguments: object
    ) -> tuple[dict[str, Any], bytes]:
        """The answer's header and body.

        Raises Unavailable when the child does not answer in time, TooBusy when it says that
        its queue is full, TooLarge for what no frame can carry, and AIStackError with the
        child's own message otherwise.
        """
        try:
            async with asyncio.timeout(self.timeout_s if timeout_s is None else timeout_s):
                return await self._exchange({"method": method, **arguments}, body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            raise Unavailable(f"{self.path.stem} does not answer; try again shortly.") from error

    async def _exchange(
        self, header: dict[str, object], body: bytes
    ) -> tuple[dict[str, Any], bytes]:
        number = next(self._ids)
        frame = _encode({**header, "id": number}, body)
        writer = await self._connected()
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            writer.writelines(frame)
            await writer.drain()
            reply, data = await answer
        except asyncio.CancelledError:
            with suppress(OSError):
                writer.writelines(_encode({"cancel": number}, b""))
            raise
        finally:
            self._waiting.pop(number, None)
        return _checked(reply), data

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is None or self._writer.is_closing():
                reader, self._writer = await asyncio.open_unix_connection(str(self.path))
                self._reader_task = asyncio.create_task(self._receive(reader, self._writer))
            return self._writer

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                header, body = await _read(reader)
                waiting = self._waiting.get(header["id"])
                if waiting is not None and not waiting.done():
                    waiting.set_result((header, body))
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self._fail(error)
        finally:
            writer.close()

    def _fail(self, error: Exception) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError(str(error)))

    async def aclose(self) -> None:
        if self._reader_task is not None:
            self._reader_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader_task


@dataclass
class ChannelServer:
    """Serves handlers by method name on a unix socket, each call as a task of its own."""

    handlers: Mapping[str, Handler]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, path: Path) -> None:
        """Serve until cancelled; replaces a stale socket, and only the owner may connect."""
        path.unlink(missing_ok=True)
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(str(path))
        path.chmod(0o600)  # before it listens; a umask would reach the folders of other threads
        server = await asyncio.start_unix_server(self._connection, sock=bound, backlog=512)
        try:
            await server.serve_forever()
        finally:
            server.close()  # without waiting for clients that stay connected

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                header, body = await _read(reader)
                self._dispatch(header, body, writer, calls)
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):
            pass  # the client left or does not speak this protocol, or the server stops
        finally:
            for call in calls.values():
                call.cancel()
            writer.close()

    def _dispatch(
        self,
        header: dict[str, Any],
        body: bytes,
        writer: asyncio.StreamWriter,
        calls: dict[int, asyncio.Task[None]],
    ) -> None:
        if "cancel" in header:
            if (call := calls.get(header["cancel"])) is not None:
                call.cancel()
            return
        number = header["id"]
        task = calls[number] = asyncio.create_task(self._answer(header, body, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: calls.pop(number, None))

    async def _answer(
        self, header: dict[str, Any], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        number = header["id"]
        try:
            reply, data = await self.handlers[header["method"]](header, body)
            frame = _encode({**reply, "id": number}, data)
        except AIStackError as error:
            refusal = {"error": error.message, "code": error.code, "fields": error.fields}
            frame = _encode({**refusal, "id": number}, b"")
        except Exception:
            log.exception("a call failed")
            frame = _encode({"error": "", "code": AIStackError.code, "id": number}, b"")
        with suppress(OSError):
            writer.writelines(frame)
            await writer.drain()


def _encode(header: Mapping[str, object], body: bytes) -> tuple[bytes, bytes, bytes]:
    """A frame; TooLarge here, since there its reader would hang up on all calls."""
    encoded = orjson.dumps(header, option=orjson.OPT_SERIALIZE_NUMPY)
    if len(encoded) > MAX_HEADER or len(body) > MAX_BODY:
        raise TooLarge("This is more than a process of the stack takes at once.")
    return FRAME.pack(len(encoded), len(body)), encoded, body


async def _read(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    header_size, body_size = FRAME.unpack(await reader.readexactly(FRAME.size))
    if header_size > MAX_HEADER or body_size > MAX_BODY:
        raise ValueError("frame too large")
    header: dict[str, Any] = orjson.loads(await reader.readexactly(header_size))
    return header, await reader.readexactly(body_size)


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    if "error" not in reply:
        return reply
    kind = ERRORS.get(reply.get("code", ""), AIStackError)
    raise kind(reply["error"], fields=reply.get("fields"))


def _tree(error: type[AIStackError]) -> Iterator[type[AIStackError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from _tree(kind)


ERRORS = {kind.code: kind for kind in _tree(AIStackError)}
