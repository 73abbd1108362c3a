"""Sessions: the conversation is kept here, and each answer is appended to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from ai_stack.caches.conversations import Conversations, Kept, Outline
from ai_stack.errors import Conflict, InvalidCursor, InvalidRequest, NotFound, Unavailable
from ai_stack.models.generation import (
    Citation,
    Generated,
    GenerateRequest,
    Message,
    Remembered,
    Turn,
)
from ai_stack.models.identifiers import uuid7_hex
from ai_stack.models.inference import PLAIN, Options
from ai_stack.models.principals import Principal
from ai_stack.models.sessions import NewSession, Session, SessionPage, SessionTurn
from ai_stack.services.inference.generation import Generating, Generation

MOST_TURNS = 500
LARGEST = 8 << 20
LONGEST = 256 << 10  # characters of one message
LONGEST_HEAD = 64 << 10  # bytes of system, model and metadata
FULL = "This session is full; begin another one."


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of a project, each forgotten `ttl_s` seconds after its last message.

    Every method raises Unavailable while Redis is down; nothing else needs it.
    """

    conversations: Conversations
    generation: Generation
    ttl_s: int

    async def create(self, principal: Principal, new: NewSession) -> Session:
        """Begin a session."""
        id, now = uuid7_hex(), _now()
        head = _encoded({**_fields(new), "at": now})
        if len(head) > LONGEST_HEAD:
            raise InvalidRequest(f"A session begins with at most {LONGEST_HEAD} bytes.")
        await self.conversations.create(_scope(principal), id, head, self.ttl_s)
        return Session(id, new.system, new.model, new.metadata, now, now, 0)

    async def get(self, principal: Principal, id: str) -> Session:
        """A session with its turns, the oldest first; NotFound."""
        return _session(id, await self._kept(principal, id))

    async def page(
        self, principal: Principal, *, limit: int = 100, cursor: str | None = None
    ) -> SessionPage:
        """Sessions without their turns, the latest begun first."""
        before = None if cursor is None else _checked(cursor)
        if cursor is not None and before is None:
            raise InvalidCursor
        found = await self.conversations.page(_scope(principal), limit + 1, before)
        items = [_outlined(one) for one in found[:limit]]
        return SessionPage(items, items[-1].id if len(found) > limit else None)

    async def delete(self, principal: Principal, id: str) -> None:
        """Forget a session; NotFound."""
        known = _checked(id)
        if known is None or not await self.conversations.delete(_scope(principal), known):
            raise _unknown(id)

    async def say(
        self,
        principal: Principal,
        id: str,
        said: GenerateRequest,
        options: Options = PLAIN,
        *,
        streamed: bool = False,
    ) -> Generating:
        """Have the one message of a user answered; kept when the answer has come whole.

        Raises NotFound, Conflict for a session that is full, and what Generation.open does. Turns
        that the model's context has no room for are left out, the oldest first, and counted.
        """
        content = str(said.messages[0]["content"])
        if not 0 < len(content) <= LONGEST:
            raise InvalidRequest(f"content must have 1 to {LONGEST} characters.")
        kept = await self._kept(principal, id)
        if len(kept.turns) >= MOST_TURNS or sum(map(len, kept.turns)) > LARGEST:
            raise Conflict(FULL)
        session = _session(id, kept)
        request = _continued(session, said)
        begun = await self.generation.open(request, principal, options, streamed=streamed)
        left_out = begun.prompt.left_out
        begun.ended = partial(self._remember, principal, session.id, content, left_out)
        return begun

    async def _remember(
        self, principal: Principal, id: str, content: str, left_out: int, made: Generated
    ) -> Generated:
        """Keep a turn; an answer that cannot be kept is still an answer, and says so."""
        citations = None if made.grounds is None else made.grounds.citations
        turn = SessionTurn(content, made.text, made.model, _now(), citations)
        try:
            encoded = _encoded(turn)
            kept = await self.conversations.append(_scope(principal), id, encoded, self.ttl_s)
        except Unavailable:
            kept = False
        return replace(made, session=Remembered(id, left_out, kept))

    async def _kept(self, principal: Principal, id: str) -> Kept:
        known = _checked(id)
        found = known and await self.conversations.read(_scope(principal), known)
        if not found:
            raise _unknown(id)
        return found


def _continued(session: Session, said: GenerateRequest) -> GenerateRequest:
    """What is said now, after all that was said before it."""
    head: list[Message] = []
    if session.system is not None:
        head.append({"role": "system", "content": session.system})
    named = {} if session.model is None else {"model": session.model}
    return replace(
        said,
        messages=[*head, *said.messages],
        turns=_turns(session),
        fields={**named, **said.fields},
    )


def _turns(session: Session) -> list[Turn]:
    return [
        (
            {"role": "user", "content": turn.user},
            {"role": "assistant", "content": turn.assistant},
        )
        for turn in session.turns
    ]


def _fields(new: NewSession) -> dict[str, object]:
    return {"system": new.system, "model": new.model, "metadata": new.metadata}


def _session(id: str, kept: Kept) -> Session:
    turns = [_turn(encoded) for encoded in kept.turns]
    return _made(id, kept.head, turns[-1] if turns else None, turns)


def _outlined(outline: Outline) -> Session:
    last = None if outline.last is None else _turn(outline.last)
    return _made(outline.id, outline.head, last, (), outline.turns)


def _made(
    id: str,
    head: bytes,
    last: SessionTurn | None,
    turns: Sequence[SessionTurn],
    count: int | None = None,
) -> Session:
    told: dict[str, Any] = orjson.loads(head)
    return Session(
        id,
        told["system"],
        told["model"],
        told["metadata"],
        told["at"],
        told["at"] if last is None else last.at,
        len(turns) if count is None else count,
        turns,
    )


def _turn(encoded: bytes) -> SessionTurn:
    told: dict[str, Any] = orjson.loads(encoded)
    cited = told.pop("citations")
    return SessionTurn(**told, citations=None if cited is None else [Citation(**c) for c in cited])


def _encoded(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("The session cannot be written as JSON.") from error


def _checked(id: str) -> str | None:
    """An id as it is kept, None for what cannot be one."""
    try:
        return UUID(id).hex
    except ValueError:
        return None


def _scope(principal: Principal) -> str:
    return principal.project_id.hex


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _unknown(id: str) -> NotFound:
    return NotFound(f"There is no session {id[:64]!r}; one is forgotten some time after its use.")
