"""What models were used for, summed up by time and model."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

Period = Literal["hour", "day", "model"]
Grouping = Literal["project", "principal", "model"]


@dataclass(frozen=True, slots=True)
class Use:
    """One model's work in one period, the one that begins at `start`; times in milliseconds.

    `cached` counts the requests that no engine worked on, `repaired_calls` the tool calls that
    were malformed and mended, `failed_calls` those that were not to be mended.
    """

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    mean_ms: float = 0.0
    max_ms: float = 0.0
    repaired_calls: int = 0
    failed_calls: int = 0
    model: str | None = None
    start: datetime | None = None


@dataclass(frozen=True, slots=True)
class UseReport:
    """A page of the uses between two times, the latest first, and the sum of all of them."""

    since: datetime
    until: datetime
    items: Sequence[Use]
    totals: Use
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class UseOfAll:
    """Use by one project, by one principal of it, or of one model; times in milliseconds."""

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    mean_ms: float = 0.0
    max_ms: float = 0.0
    project_id: UUID | None = None
    project: str | None = None
    principal: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class UseOfAllReport:
    """Uses in all projects between two times, most requests first, and their sum."""

    since: datetime
    until: datetime
    items: Sequence[UseOfAll]
    totals: UseOfAll
