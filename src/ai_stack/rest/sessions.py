"""Sessions over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.errors import InvalidRequest
from ai_stack.models.generation import GenerateRequest
from ai_stack.models.sessions import NewSession, Session, SessionTurn
from ai_stack.rest.answers import respond
from ai_stack.rest.generation import (
    SAY,
    endpoint,
    is_streamed,
    read_documents,
    read_fields,
    told,
    with_cache,
)
from ai_stack.rest.openai.endpoint import Delegated, Request
from ai_stack.rest.requests import MAY_INFER, JsonRoute, Reader, UseStack, Writer
from ai_stack.services.inference.reading import Answer

router = APIRouter(prefix="/sessions", tags=["sessions"], route_class=JsonRoute)

Limit = Annotated[int, Query(ge=1, le=1000)]


class SessionBody(BaseModel):
    """How a session begins."""

    model_config = ConfigDict(extra="forbid")

    system: str | None = Field(None, description="what the model is told before all else")
    model: str | None = Field(None, description="who answers unless a message names another")
    metadata: dict[str, Any] = Field(default_factory=dict)


@router.post("", status_code=201)
async def create_session(stack: UseStack, caller: Writer, body: SessionBody) -> Response:
    """Begin a session."""
    new = NewSession(body.system, body.model, body.metadata)
    return respond(_outline(await stack.sessions.create(caller, new)), 201)


@router.get("")
async def list_sessions(
    stack: UseStack, caller: Reader, limit: Limit = 100, cursor: str | None = None
) -> Response:
    """Sessions without their messages, the latest begun first, a page at a time."""
    page = await stack.sessions.page(caller, limit=limit, cursor=cursor)
    return respond({"items": [_outline(s) for s in page.items], "next_cursor": page.next_cursor})


@router.get("/{id}")
async def get_session(stack: UseStack, caller: Reader, id: str) -> Response:
    """A session with its messages, the oldest first."""
    session = await stack.sessions.get(caller, id)
    said = [message for turn in session.turns for message in _messages(turn)]
    return respond({**_outline(session), "messages": said})


@router.delete("/{id}", status_code=204)
async def delete_session(stack: UseStack, caller: Writer, id: str) -> Response:
    """Forget a session."""
    await stack.sessions.delete(caller, id)
    return Response(status_code=204)


@router.post("/{id}/messages", openapi_extra=SAY, dependencies=[MAY_INFER])
async def say(id: str) -> Response:
    """Say something in a session; takes and answers what /inference/generate does.

    `session` tells how many of the oldest turns the model did not see, and whether this turn
    was kept.
    """

    async def handle(request: Request) -> Answer:
        return await _said(id, request)

    return Delegated(endpoint(handle))


async def _said(id: str, request: Request) -> Answer:
    body = {name: value for name, value in request.body.items() if name != "content"}
    content, streamed = request.body.get("content"), is_streamed(body)
    if not isinstance(content, str):
        raise InvalidRequest("content must be a text.", fields={"content": "must be a text"})
    messages = [{"role": "user", "content": content}]
    asked = GenerateRequest(
        messages, fields=read_fields(body, messages), documents=read_documents(body)
    )
    options = with_cache(request.options, body)
    sessions = request.stack.sessions
    begun = await sessions.say(request.caller, id, asked, options, streamed=streamed)
    return told(begun, streamed=streamed)


def _outline(session: Session) -> dict[str, object]:
    return {
        "id": session.id,
        "system": session.system,
        "model": session.model,
        "metadata": session.metadata,
        "turns": session.count,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }


def _messages(turn: SessionTurn) -> list[dict[str, object]]:
    answered: dict[str, object] = {
        "role": "assistant",
        "content": turn.assistant,
        "model": turn.model,
        "created_at": turn.at,
    }
    if turn.citations is not None:
        answered["citations"] = turn.citations
    return [{"role": "user", "content": turn.user}, answered]
