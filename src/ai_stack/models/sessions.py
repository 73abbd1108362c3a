"""Sessions: conversations that are kept for a time, so that a client sends only what is new."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ai_stack.models.documents import Metadata
from ai_stack.models.generation import Citation


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a caller gives: a text for the system, a model that answers unless another is named."""

    system: str | None = None
    model: str | None = None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionTurn:
    """What a user said and what was answered; `at` is when, in RFC 3339."""

    user: str
    assistant: str
    model: str
    at: str
    citations: Sequence[Citation] | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A session; `count` counts its turns, which a list leaves out."""

    id: str
    system: str | None
    model: str | None
    metadata: Metadata
    created_at: str
    updated_at: str
    count: int
    turns: Sequence[SessionTurn] = ()


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One page of a list; `next_cursor` is None on the last."""

    items: Sequence[Session]
    next_cursor: str | None
