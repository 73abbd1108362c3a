"""What travels between the floors of inference: models that are served, calls, and their record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

from ai_stack.models.departure import Departure
from ai_stack.models.traces import Place

Operation = Literal["chat", "completion", "embedding", "rerank"]
Outcome = Literal["ok", "refused", "failed", "broken", "cancelled", "late"]
Priority = Literal["interactive", "batch"]
Body: TypeAlias = Mapping[str, object]

GENERATION: frozenset[Operation] = frozenset({"chat", "completion"})


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as one engine serves it.

    `context_length` is what one request may fill, in tokens. `slots` are the requests that the
    engine works on at once. `revision` changes when other weights serve the same id. A model
    that is not `loaded` is loaded by its first request.
    """

    id: str
    context_length: int | None = None
    slots: int | None = None
    operations: frozenset[Operation] = GENERATION
    owned_by: str = "local"
    created: int = 0
    revision: str = ""
    loaded: bool = True


@dataclass(slots=True)
class Call:
    """One request to an engine, in OpenAI's form; `encoded` is `body` as JSON.

    An engine that has nothing to translate sends `encoded` as it is, and tells its `trace`.
    Calls of one `salt` may share what an engine keeps of their prompts, those of two may not.
    """

    operation: Operation
    body: Body
    encoded: bytes
    trace: Place | None = None
    salt: str = ""

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def streamed(self) -> bool:
        return self.body.get("stream") is True


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer; `cached` of the prompt's were found in the engine's own cache."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


@dataclass(slots=True)
class InferenceRecord:
    """One row of the log of inferences, under a UUIDv7.

    `at` is in seconds of Unix time, other times in milliseconds; tokens are as the engine told.
    """

    id: str
    at: float
    project_id: UUID
    principal: str
    operation: str
    model: str
    engine: str | None = None
    outcome: Outcome = "ok"
    usage: Usage | None = None
    first_token_ms: float | None = None
    total_ms: float = 0.0
    cached: bool = False
    cost: float = 0.0
    detail: Mapping[str, object] | None = None
    trace: Place | None = None


Tokens: TypeAlias = Sequence[int]


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What a client wants of the cache (RFC 9111's request directives).

    `asked` has an answer kept that would not be the same again; `only` takes nothing but a kept
    one; `longest_s` is how old it may be and how long it is kept.
    """

    reads: bool = True
    stores: bool = True
    asked: bool = False
    only: bool = False
    longest_s: int | None = None


@dataclass(slots=True)
class Options:
    """How a request is to be worked on; `timeout_s` shortens the settings' own.

    Work for a client stops at its `departure`.
    """

    cache: CachePolicy = CachePolicy()
    priority: Priority = "interactive"
    timeout_s: float | None = None
    departure: Departure | None = None


PLAIN = Options()
