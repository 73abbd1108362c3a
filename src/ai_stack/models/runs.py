"""Runs: long work that can be followed and cancelled."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from ai_stack.models.documents import JSON

RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
EventKind = Literal[
    "started", "progress", "delta", "step", "ask", "artifact", "done", "failed", "cancelled"
]


@dataclass(frozen=True, slots=True)
class Run:
    """One piece of long work; `kind` is `import`, `reindex`, `migrate`, ..."""

    id: UUID
    kind: str
    status: RunStatus
    input: Mapping[str, JSON]
    output: Mapping[str, JSON] | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run; `number` counts from 1 within it."""

    number: int
    kind: EventKind
    data: Mapping[str, JSON]
    at: datetime
