"""What is generated from a prompt, and the passages of documents that it was drawn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ai_stack.models.inference import Usage
from ai_stack.models.search import SearchRequest

Message: TypeAlias = Mapping[str, Any]
Turn: TypeAlias = Sequence[Message]


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """`messages` are what is asked now, with the system's before it; `turns` lie between these two.

    The oldest turns are left out where the model's context is too short for them. `fields` are
    those of a chat request. `documents` that has no query is searched by the user's last message.
    """

    messages: Sequence[Message]
    turns: Sequence[Turn] = ()
    fields: Mapping[str, object] = field(default_factory=dict)
    documents: SearchRequest | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage by its number in the answer: `start` and `end` count code points of the content."""

    number: int
    document_id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Grounds:
    """The passages that were found, those of them that the model saw, and those it named."""

    found: int
    shown: int
    citations: Sequence[Citation] = ()
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of an answer, or of the reasoning before it."""

    kind: Literal["text", "reasoning"]
    text: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """The session of an answer: turns that the model did not see, and whether this one was kept."""

    session_id: str
    left_out: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer. `counted` says how what fits the context was told, None where it was not."""

    text: str
    model: str
    usage: Usage
    cached: bool
    finish_reason: str
    reasoning: str = ""
    grounds: Grounds | None = None
    counted: Literal["exact", "estimated"] | None = None
    session: Remembered | None = None
