"""Runs over REST, their events as a stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from ai_stack.errors import InvalidRequest
from ai_stack.models.answers import run_json
from ai_stack.models.runs import ENDED, Event, FileState, RunFile
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import Reader, UseStack, Writer

router = APIRouter(prefix="/runs", tags=["runs"])

KEEP_ALIVE_S = 15.0
KEEP_ALIVE = b": keep-alive\n\n"

Limit = Annotated[int, Query(ge=1, le=1000)]
LastEventId = Annotated[str | None, Header(description="Number of the last event received.")]


@router.get("")
async def list_runs(
    stack: UseStack,
    caller: Reader,
    limit: Limit = 100,
    cursor: str | None = None,
    kind: str | None = None,
) -> Response:
    """Runs, newest first, a page at a time."""
    page = await stack.runs.page(caller, limit=limit, cursor=cursor, kind=kind)
    return respond({"items": [run_json(r) for r in page.items], "next_cursor": page.next_cursor})


@router.get("/{id}")
async def get_run(stack: UseStack, caller: Reader, id: UUID) -> Response:
    """One run."""
    return respond(run_json(await stack.runs.get(caller, id)))


@router.delete("/{id}", status_code=202)
async def cancel_run(stack: UseStack, caller: Writer, id: UUID) -> Response:
    """Cancel a run; it has ended when its status is `cancelled`."""
    return respond(run_json(await stack.runs.cancel(caller, id)), 202)


@router.post("/{id}/retry", status_code=202)
async def retry_run(stack: UseStack, caller: Writer, id: UUID) -> Response:
    """Do a run again that failed or was cancelled."""
    return respond(run_json(await stack.runs.retry(caller, id)), 202)


@router.get("/{id}/files")
async def list_files(
    stack: UseStack,
    caller: Reader,
    id: UUID,
    limit: Limit = 100,
    cursor: str | None = None,
    state: FileState | None = None,
) -> Response:
    """The files of an import, with the state and error of each."""
    page = await stack.runs.files(caller, id, limit=limit, cursor=cursor, state=state)
    return respond({"items": [_file_json(f) for f in page.items], "next_cursor": page.next_cursor})


@router.get("/{id}/events", responses={204: {"description": "It has ended; no event is left."}})
async def follow_run(
    stack: UseStack, caller: Reader, id: UUID, last_event_id: LastEventId = None
) -> Response:
    """The events of a run as server-sent events, until it has ended.

    Those after `Last-Event-ID`, or all.
    """
    after = _number(last_event_id)
    run = await stack.runs.get(caller, id)
    events = stack.runs.follow(caller, id, after)
    if run.status not in ENDED:
        return events_response(events)
    first = await anext(events, None)
    return Response(status_code=204) if first is None else events_response(_again(first, events))


def events_response(events: AsyncIterator[Event]) -> Response:
    """Events as server-sent events."""
    return _stream(_alive(events))


def _stream(body: AsyncIterator[bytes]) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


async def _again(first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in rest:
        yield event


async def _alive(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """Events as text, with a comment when there was none for a while."""
    upcoming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait([upcoming], timeout=KEEP_ALIVE_S)
            if not done:
                yield KEEP_ALIVE
                continue
            event = upcoming.result()
            if event is None:
                return
            yield _event_text(event)
            upcoming = asyncio.ensure_future(anext(events, None))
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)


def _event_text(event: Event) -> bytes:
    data = orjson.dumps(
        {"number": event.number, "kind": event.kind, "data": event.data, "at": event.at}
    )
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), data)


def _number(last_event_id: str | None) -> int:
    if last_event_id is None or last_event_id == "":
        return 0
    if not (last_event_id.isascii() and last_event_id.isdecimal()) or len(last_event_id) > 9:
        raise InvalidRequest("Last-Event-ID must be the number of an event.")
    return int(last_event_id)


def _file_json(file: RunFile) -> dict[str, object]:
    shown: dict[str, object] = {
        "number": file.number,
        "path": file.path,
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "state": file.state,
    }
    if file.error is not None:
        shown["error"] = file.error
    if file.document_id is not None:
        shown["document_id"] = file.document_id
    return shown
