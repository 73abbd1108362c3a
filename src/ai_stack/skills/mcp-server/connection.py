"""One conversation with one server: from its entry to what came of it, in time, whatever it does.

Both eras of the protocol: it asks for the newest, and shakes hands as of old where there is none.
It answers no question that a server asks back: no sampling, no elicitation, no roots.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client._transport import TransportStreams
from mcp_types import CONNECTION_CLOSED
from pydantic import ValidationError

from .endpoint import reached
from .masking import Mask, visible
from .process import Traffic, started
from .servers import Command, Endpoint, Entry

Found = TypeVar("Found")
CLOSING_S, SHOWN = 3.0, 300
FAILURES = (
    MCPError, OSError, ValueError, RuntimeError, LookupError, TypeError, ExceptionGroup,
    httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, anyio.EndOfStream,
    anyio.BrokenResourceError, anyio.ClosedResourceError,
)  # fmt: skip


class ServerFailed(Exception):
    """A server did not do what was asked; the message is one sentence, without its secrets."""


async def conversed(
    entry: Entry, wait_s: float, work: Callable[[Client], Awaitable[Found]]
) -> Found:
    """What `work` finds with a client of the server; ServerFailed.

    What was found counts even when the server does not end well afterwards.
    """
    traffic, found = Traffic(), list[Found]()
    if entry.way is None:
        raise ServerFailed(entry.fault)
    failure: Exception = TimeoutError()
    with anyio.move_on_after(wait_s) as scope:
        try:
            async with Client(_transport(entry.way, traffic, wait_s), cache=None) as client:
                found.append(await work(client))
                scope.deadline = min(scope.deadline, anyio.current_time() + CLOSING_S)
        except FAILURES as error:
            failure = error
    if not found:
        raise ServerFailed(_told(entry, traffic, _cause(failure), wait_s)) from None
    return found[0]


def _transport(
    way: Command | Endpoint, traffic: Traffic, wait_s: float
) -> AbstractAsyncContextManager[TransportStreams]:
    if isinstance(way, Command):
        return started(way, traffic)
    return reached(way, traffic, wait_s)


def _cause(error: BaseException) -> BaseException:
    """The first failure of a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(entry: Entry, traffic: Traffic, cause: BaseException, wait_s: float) -> str:
    if isinstance(cause, ServerFailed):
        return str(cause)
    why = traffic.fault or _of_http(traffic, cause) or _of_kind(entry, cause, wait_s)
    if isinstance(entry.way, Command) and traffic.ended and not traffic.fault:
        why = _of_end(traffic, cause) or why
    if traffic.odd_lines and not traffic.fault:
        why += f" It wrote {traffic.odd_lines} lines that are no JSON-RPC."
    return shown(entry, why)


def shown(entry: Entry, text: str) -> str:
    """A text of a server in one line, for people: short, without its secrets and tricks."""
    return " ".join(visible(Mask(entry.way).text(text[: 8 * SHOWN])).split())[:SHOWN]


def _of_http(traffic: Traffic, cause: BaseException) -> str:
    status = traffic.http_status or 0
    if status in (401, 403):
        return f"It answered with HTTP {status}: its `headers` need a key that it takes."
    if status >= 300 and not isinstance(cause, TimeoutError):
        return f"It answered with HTTP {status}."
    return ""


def _of_end(traffic: Traffic, cause: BaseException) -> str:
    """Of a program that ended by itself, its last words."""
    if not _is_lost(cause):
        return ""
    words = traffic.tail.decode("utf-8", "replace").strip().splitlines()
    last = f": {words[-1]}" if words else "."
    return f"It ended with status {traffic.exit_status} before it answered{last}"


def _is_lost(cause: BaseException) -> bool:
    """Whether the server closed the line, and not this side."""
    if isinstance(cause, MCPError):
        return cause.error.code == CONNECTION_CLOSED
    return isinstance(cause, anyio.ClosedResourceError | anyio.BrokenResourceError)


def _of_kind(entry: Entry, cause: BaseException, wait_s: float) -> str:
    if isinstance(cause, FileNotFoundError) and isinstance(entry.way, Command):
        return f"Its program {entry.way.command} is not on this machine, or its `cwd` is not."
    if isinstance(cause, TimeoutError | httpx2.TimeoutException):
        return f"It did not answer within {wait_s:g} s."
    if isinstance(cause, httpx2.ConnectError):
        return "Nothing answers at its `url`."
    if isinstance(cause, MCPError):
        return f"It refused: {cause.error.message}"
    if isinstance(cause, ValidationError):
        return "It answers with what the protocol does not know."
    return f"Speaking with it failed ({type(cause).__name__})."
