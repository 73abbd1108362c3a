"""How much models were used: the hours of the log, summed up as a reader asks."""

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from ai_stack.database import Database, census, inferences
from ai_stack.database.inferences import HourOfUse
from ai_stack.errors import InvalidCursor, InvalidRequest
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.usage import Grouping, Period, Use, UseOfAll, UseOfAllReport, UseReport

SPAN = timedelta(days=7)
LONGEST_SPAN = timedelta(days=400)
FIRST = datetime.min.replace(tzinfo=UTC)

# Newest first, then by name: what a page is sorted by, and its cursor stands for.
Place: TypeAlias = tuple[float, str]
Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """The log of a project's inferences in sums; hours and days begin by UTC."""

    database: Database

    async def report(
        self,
        principal: Principal,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        model: str | None = None,
        group: Period = "hour",
        limit: int = 100,
        cursor: str | None = None,
    ) -> UseReport:
        """What was used between two times, by default in the last seven days.

        The hour that `since` lies in counts whole. Rows of the last second may be missing.
        """
        begin, end = _span(since, until)
        hours = await inferences.hours(self.database, principal.project_id, begin, end, model)
        uses = _grouped(hours, group)
        after = None if cursor is None else _place(cursor)
        rest = [use for use in uses if after is None or _order(use) > after]
        page = rest[:limit]
        following = _cursor(page[-1]) if len(rest) > limit else None
        return UseReport(begin, end, page, _sum(hours), following)

    async def report_all(
        self,
        principal: Principal,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        group: Grouping = "project",
    ) -> UseOfAllReport:
        """What was used in all projects between two times, by default in the last seven days.

        Forbidden without `operate`.
        """
        principal.require(Scope.OPERATE)
        begin, end = _span(since, until)
        rows = await census.usage(self.database, begin, end, by_principal=group == "principal")
        return UseOfAllReport(begin, end, _by(rows, group), _total(rows))


def _span(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    end = _utc(until or datetime.now(UTC))
    begin = _utc(since or end - SPAN).replace(minute=0, second=0, microsecond=0)
    if not begin <= end <= begin + LONGEST_SPAN:
        raise InvalidRequest(f"since must lie before until, by at most {LONGEST_SPAN.days} days.")
    return begin, end


def _by(rows: Iterable[Row], group: Grouping) -> list[UseOfAll]:
    """One use for each project, principal of a project, or model."""
    names = {
        "project": ("project_id", "project"),
        "principal": ("project_id", "project", "principal"),
        "model": ("model",),
    }[group]
    found = defaultdict[tuple[object, ...], list[Row]](list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row)
    uses = [
        replace(_total(below), **dict(zip(names, key, strict=True)))  # type: ignore[arg-type]
        for key, below in found.items()
    ]
    return sorted(uses, key=lambda use: -use.requests)


def _total(rows: Iterable[Row]) -> UseOfAll:
    found = list(rows)
    requests = sum(row["requests"] for row in found)
    spent_ms = sum(row["mean_ms"] * row["requests"] for row in found)
    return UseOfAll(
        requests,
        sum(row["cached"] for row in found),
        sum(row["prompt_tokens"] for row in found),
        sum(row["completion_tokens"] for row in found),
        sum(row["cost"] for row in found),
        round(spent_ms / requests, 3) if requests else 0.0,
        max((row["max_ms"] for row in found), default=0.0),
    )


def _grouped(hours: Iterable[HourOfUse], group: Period) -> list[Use]:
    found = defaultdict[tuple[datetime, str], list[HourOfUse]](list)
    for hour in hours:
        found[_start(hour, group), hour.model].append(hour)
    uses = [
        replace(_sum(rows), model=model, start=None if start == FIRST else start)
        for (start, model), rows in found.items()
    ]
    return sorted(uses, key=_order)


def _start(hour: HourOfUse, group: Period) -> datetime:
    if group == "model":
        return FIRST
    start = _utc(hour.hour)
    return start.replace(hour=0) if group == "day" else start


def _sum(hours: Iterable[HourOfUse]) -> Use:
    rows = list(hours)
    requests = sum(row.requests for row in rows)
    total_ms = sum(row.mean_ms * row.requests for row in rows)
    return Use(
        requests,
        sum(row.cached for row in rows),
        sum(row.prompt_tokens for row in rows),
        sum(row.completion_tokens for row in rows),
        sum(row.cost for row in rows),
        round(total_ms / requests, 3) if requests else 0.0,
        max((row.max_ms for row in rows), default=0.0),
        sum(row.repaired_calls for row in rows),
        sum(row.failed_calls for row in rows),
    )


def _order(use: Use) -> Place:
    return -use.start.timestamp() if use.start is not None else 0.0, use.model or ""


def _cursor(use: Use) -> str:
    start, model = _order(use)
    return base64.urlsafe_b64encode(f"{start:.0f} {model}".encode()).rstrip(b"=").decode()


def _place(cursor: str) -> Place:
    try:
        start, _, model = base64.urlsafe_b64decode(cursor + "==").decode().partition(" ")
        return float(start), model
    except ValueError as error:
        raise InvalidCursor from error


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
