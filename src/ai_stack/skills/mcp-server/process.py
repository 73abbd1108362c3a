"""A server that is a program: its lines as messages, within bounds, and its end with the call.

The SDK's own transport keeps a line of any length in memory and lets what a server started
outlive it; this one does neither. It knows no method of the protocol.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from .servers import Command

MAX_LINE_BYTES, MAX_BYTES, MAX_LINES, MAX_ODD_LINES = 16 << 20, 48 << 20, 20_000, 100
TAIL_BYTES = 4096
GRACE_S, TERM_S, KILL_S = 1.0, 0.5, 2.0
Received = MemoryObjectReceiveStream[SessionMessage | Exception]
Sent = MemoryObjectSendStream[SessionMessage]


@dataclass(slots=True)
class Traffic:
    """What is seen of a server beside its messages; `fault` is why it was cut off."""

    fault: str = ""
    odd_lines: int = 0
    tail: bytes = b""
    ended: bool = False
    exit_status: int | None = None
    http_status: int | None = None


@dataclass(slots=True)
class Output(asyncio.SubprocessProtocol):
    """Cuts what a server writes into lines, and stops at the bounds."""

    traffic: Traffic
    lines: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: list[bytes] = field(default_factory=list)
    held: int = 0
    seen: int = 0
    counted: int = 0

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.seen += len(data)
        if self.traffic.fault:
            return
        if self.seen > MAX_BYTES:
            self._stop(f"It wrote more than {MAX_BYTES >> 20} MiB.")
        elif fd == 1:
            self._take(data)
        else:
            self.traffic.tail = (self.traffic.tail + data)[-TAIL_BYTES:]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self.lines.put_nowait(None)

    def process_exited(self) -> None:
        self.traffic.ended = True
        self.exited.set()

    def _take(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._line(b"".join((*self.pieces, line)))
            self.pieces, self.held = [], 0
        self.pieces.append(rest)
        self.held += len(rest)
        if self.held > MAX_LINE_BYTES:
            self._stop(f"It wrote a message of more than {MAX_LINE_BYTES >> 20} MiB.")

    def _line(self, line: bytes) -> None:
        if not line.strip() or self.traffic.fault:
            return
        self.counted += 1
        if self.counted > MAX_LINES:
            self._stop(f"It wrote more than {MAX_LINES} messages.")
        else:
            self.lines.put_nowait(line)

    def _stop(self, fault: str) -> None:
        self.traffic.fault, self.pieces = fault, []
        self.lines.put_nowait(None)


def program_of(command: Command) -> str | None:
    """Where the program of a command is, None where it is nowhere."""
    path = command.env.get("PATH") or os.environ.get("PATH")
    return shutil.which(Path(command.command).expanduser(), path=path)


@asynccontextmanager
async def started(command: Command, traffic: Traffic) -> AsyncIterator[tuple[Received, Sent]]:
    """Start a server and speak with it; it and all of its group end with the block.

    Of the environment it is given what the SDK deems harmless, and what its entry says.
    FileNotFoundError where the program is nowhere.
    """
    output = Output(traffic)
    program = program_of(command)
    if program is None:
        raise FileNotFoundError(command.command)
    transport = await _transport(command, program, output)
    try:
        async with _pumped(transport, output) as streams:
            yield streams
    finally:
        with anyio.CancelScope(shield=True):
            await _end(transport, output)


async def _transport(command: Command, program: str, output: Output) -> asyncio.SubprocessTransport:
    """The server's process; one that has begun when this is cancelled ends with its group."""
    starting = asyncio.create_task(
        asyncio.get_running_loop().subprocess_exec(
            lambda: output, program, *command.args,
            env=get_default_environment() | command.env, cwd=_folder(command),
            start_new_session=True,
        )
    )  # fmt: skip
    try:
        return (await asyncio.shield(starting))[0]
    except asyncio.CancelledError:
        with suppress(OSError):
            await _end((await starting)[0], output)
        raise


def _folder(command: Command) -> Path:
    return Path(command.cwd).expanduser() if command.cwd else Path.home()


@asynccontextmanager
async def _pumped(
    transport: asyncio.SubprocessTransport, output: Output
) -> AsyncIterator[tuple[Received, Sent]]:
    """The two streams that a session uses, for as long as the block runs."""
    incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    async with incoming, read, write, outgoing, anyio.create_task_group() as tasks:
        tasks.start_soon(_receive, output, incoming)
        tasks.start_soon(_send, transport, outgoing)
        try:
            yield read, write
        finally:
            tasks.cancel_scope.cancel()


async def _receive(
    output: Output, incoming: MemoryObjectSendStream[SessionMessage | Exception]
) -> None:
    """Give the session each line that is a message; its stream ends where the server does."""
    async with incoming:
        while (line := await output.lines.get()) is not None and not output.traffic.fault:
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except (ValueError, RecursionError):
                output.traffic.odd_lines += 1
                if output.traffic.odd_lines >= MAX_ODD_LINES:
                    output.traffic.fault = "It writes text that is no JSON-RPC."
                continue
            try:
                await incoming.send(SessionMessage(message))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return


async def _send(
    transport: asyncio.SubprocessTransport, outgoing: MemoryObjectReceiveStream[SessionMessage]
) -> None:
    # uvloop's transports are of no class of asyncio's, but do the same.
    stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
    async with outgoing:
        async for sent in outgoing:
            line = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
            if not stdin.is_closing():
                stdin.write(line.encode() + b"\n")


async def _end(transport: asyncio.SubprocessTransport, output: Output) -> None:
    """Ask the server to end by closing its input; then end all that it started, too."""
    try:
        stdin = transport.get_pipe_transport(0)
        if stdin is not None:
            stdin.close()
        for end_with, wait_s in _steps(output):
            _signal(transport.get_pid(), end_with)
            with anyio.move_on_after(wait_s):
                await output.exited.wait()
                break
    finally:
        _signal(transport.get_pid(), signal.SIGKILL)
        output.traffic.exit_status = transport.get_returncode()
        transport.close()


def _steps(output: Output) -> Iterator[tuple[signal.Signals | None, float]]:
    if not output.traffic.fault:
        yield None, GRACE_S
        yield signal.SIGTERM, TERM_S
    yield signal.SIGKILL, KILL_S


def _signal(group: int, number: signal.Signals | None) -> None:
    if number is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
