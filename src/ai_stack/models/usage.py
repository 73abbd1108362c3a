"""What models were used for, summed up by time and model."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Period = Literal["hour", "day", "model"]


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
