"""Runs: long work that can be followed and cancelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from ai_stack.models.documents import JSON

RunStatus = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled"]
EventKind = Literal[
    "started", "progress", "delta", "step", "ask", "artifact", "done", "failed", "cancelled"
]
FileState = Literal["waiting", "added", "updated", "unchanged", "deleted", "failed"]
ENDED: frozenset[RunStatus] = frozenset(("succeeded", "failed", "cancelled"))


@dataclass(frozen=True, slots=True)
class Run:
    """One piece of long work; `kind` is `import`, `reindex`, `migrate`, ...

    One that is `waiting` has asked a person something, by its last event.

    `progress` is the data of the last progress event: `done`, `total`, `message` and more.
    """

    id: UUID
    kind: str
    status: RunStatus
    input: Mapping[str, JSON]
    output: Mapping[str, JSON] | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    progress: Mapping[str, JSON] | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of the list of runs, newest first; `next_cursor` is None on the last."""

    items: Sequence[Run]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run; `number` counts from 1 within it."""

    number: int
    kind: EventKind
    data: Mapping[str, JSON]
    at: datetime


@dataclass(frozen=True, slots=True)
class RunFile:
    """One file of an import, and what became of it; `document_id` is the document's key."""

    number: int
    path: str
    media_type: str | None
    size_bytes: int
    state: FileState
    error: str | None
    document_id: str | None


@dataclass(frozen=True, slots=True)
class RunFilePage:
    """One page of a run's files, in their order; `next_cursor` is None on the last."""

    items: Sequence[RunFile]
    next_cursor: str | None
