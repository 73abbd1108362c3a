"""Calls one tool of one server."""

import time
from collections.abc import Awaitable, Callable, Mapping

from mcp import Client
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult, InputRequiredResult
from pydantic import TypeAdapter

from ai_stack.skill import JSON

from .connection import ServerFailed, conversed, shown
from .listing import all_tools
from .servers import Entry

EVERY_S, NAMED, MOST = 0.5, 40, 1e15
Progress = Callable[[int, int, str], Awaitable[None]]
RESULT: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(
    CallToolResult | InputRequiredResult
)


async def called(
    entry: Entry, tool: str, arguments: Mapping[str, JSON], wait_s: float, progress: Progress
) -> CallToolResult:
    """What the tool answers, its own errors included; ServerFailed.

    The tool is looked up first, as the protocol wants it for its headers. Its result is not held
    against the schema that it lists: a hostile schema could take all of the time there is.
    """

    async def work(client: Client) -> CallToolResult:
        listing, _ = await all_tools(client)
        names = [one.name for one in listing]
        if tool not in names:
            known = ", ".join(names[:NAMED]) or "none"
            raise ServerFailed(shown(entry, f"It has no tool {tool[:128]!r}; it has: {known}."))
        return await _called(client, tool, arguments, _told(entry, progress))

    return await conversed(entry, wait_s, work)


async def _called(
    client: Client, tool: str, arguments: Mapping[str, JSON], progress: ProgressFnT
) -> CallToolResult:
    parameters = CallToolRequestParams(name=tool, arguments=dict(arguments))
    request = CallToolRequest(params=parameters)
    result = await client.session.send_request(request, RESULT, progress_callback=progress)
    if isinstance(result, InputRequiredResult):
        raise ServerFailed("It asks for more before it answers, and nobody is here to be asked.")
    return result


def _told(entry: Entry, tell_of: Progress) -> ProgressFnT:
    """Passes on how far a call is, not more often than people read."""
    last = float("-inf")

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_S and max(progress, total or 0) < MOST:
            last = time.monotonic()
            await tell_of(int(progress), int(total or 0), shown(entry, message or ""))

    return tell
