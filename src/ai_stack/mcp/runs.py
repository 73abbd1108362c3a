"""Runs over MCP: long work that was begun here or elsewhere."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NotRequired
from uuid import UUID

import anyio
from pydantic import Field
from typing_extensions import TypedDict

from ai_stack.errors import Conflict
from ai_stack.mcp.artifacts import output_of
from ai_stack.mcp.calls import Call
from ai_stack.mcp.tools import READS, Answer, Arguments, Hints, Tool
from ai_stack.models.principals import Scope
from ai_stack.models.runs import ENDED, Event, Run, RunStatus

log = logging.getLogger(__name__)
LONGEST_S = 900.0
LONGEST_WAIT_S = 50.0  # below the minute after which clients give a call up


class RunArguments(Arguments):
    """Which run."""

    run_id: UUID = Field(description="As run_skill tells it.")


class StatusArguments(RunArguments):
    """Which run, and how long to wait for its end."""

    wait_s: float = Field(0, ge=0, le=LONGEST_WAIT_S, description="Wait this long for its end.")


class Status(TypedDict):
    run_id: str
    kind: str
    status: RunStatus
    output: NotRequired[dict[str, Any]]
    error: NotRequired[str]
    progress: NotRequired[dict[str, Any]]


async def run_status(call: Call, asked: StatusArguments) -> Answer:
    """How a run is doing, and what came of it when it has ended."""
    run = await call.stack.runs.get(call.principal, asked.run_id)
    if asked.wait_s and run.status not in ENDED:
        run = await call.stack.runs.wait(call.principal, asked.run_id, asked.wait_s)
    return run_shown(run)


async def cancel_run(call: Call, asked: RunArguments) -> Answer:
    """Cancel a run that waits or runs."""
    return run_shown(await call.stack.runs.cancel(call.principal, asked.run_id))


async def followed(call: Call, id: UUID) -> Run:
    """A run when it has ended, its progress told on the way; a caller that leaves cancels it.

    After LONGEST_S it is returned as it is, and goes on.
    """
    runs = call.stack.runs
    try:
        async with asyncio.timeout(LONGEST_S):
            async for event in runs.follow(call.principal, id):
                await _tell(call, event)
    except TimeoutError:
        log.debug("run %s takes longer than its caller waits", id)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True), suppress(Conflict):  # Conflict: it ended by itself
            await runs.cancel(call.principal, id)
        raise
    return await runs.get(call.principal, id)


async def _tell(call: Call, event: Event) -> None:
    data: Mapping[str, Any] = event.data
    if event.kind == "progress":
        await call.progress(data.get("done", 0), data.get("total"), str(data.get("message", "")))


def run_shown(run: Run) -> dict[str, Any]:
    """A run; what it has nothing of is left out."""
    shown: dict[str, Any] = {"run_id": run.id, "kind": run.kind, "status": run.status}
    more = {"output": output_of(run), "error": run.error, "progress": run.progress}
    return shown | {name: value for name, value in more.items() if value}


STOPS = Hints(destroys=True, repeats=True)
TOOLS = (
    Tool(run_status, "Status of a run", StatusArguments, Status, READS, scope=Scope.READ),
    Tool(cancel_run, "Cancel a run", RunArguments, Status, STOPS, scope=Scope.WRITE),
)
