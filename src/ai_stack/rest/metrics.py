"""Metrics for Prometheus, and reports of use and of what is slow, for who operates the stack."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.types import Scope as Asgi

from ai_stack.errors import DatabaseUnavailable, Forbidden, Unauthenticated
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.usage import Grouping, UseOfAll
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import JsonRoute, Needs, Operator, UseStack
from ai_stack.services.scrape import Watchers
from ai_stack.telemetry.exposition import CONTENT_TYPE
from ai_stack.telemetry.slow import Slow

router = APIRouter(tags=["watching"], route_class=JsonRoute)

Limit = Annotated[int, Query(ge=1, le=1000)]
Moment = Annotated[datetime | None, Query(description="RFC 3339; UTC without an offset.")]


@dataclass(frozen=True, slots=True)
class Watches(Needs):
    """Who may operate the stack; while PostgreSQL is away, who watched it before may go on.

    Just then it has to be seen, and nothing of anybody is shown.
    """

    async def caller(self, scope: Asgi) -> Principal:
        state = scope["state"]
        watchers: Watchers = state["stack"].scrape.watchers
        carried = state.get("carried", ())
        try:
            found = await Needs.caller(self, scope)
        except (Unauthenticated, Forbidden):
            watchers.forget(carried)
            raise
        except DatabaseUnavailable:
            known = watchers.known(carried)
            if known is None:
                raise
            return known
        watchers.remember(carried, found)
        return found


Watcher = Annotated[Principal, Depends(Watches(Scope.OPERATE))]


@router.get("/metrics")
async def metrics(stack: UseStack, caller: Watcher) -> Response:
    """Everything that is measured, in Prometheus' text form; answers with each part down too."""
    found = await stack.scrape.text(stack.health, stack.limits)
    return Response(found, media_type=CONTENT_TYPE)


@router.get("/reports/slow")
async def report_slow(stack: UseStack, caller: Operator, limit: Limit = 50) -> Response:
    """The slowest requests and statements of this gateway since it started, the worst first."""
    items = [_slow_json(one) for one in await stack.scrape.slow(limit)]
    threshold_s = stack.telemetry.slow.threshold_s
    return respond({"threshold_s": threshold_s, "items": items, "next_cursor": None})


@router.get("/reports/usage")
async def report_usage(
    stack: UseStack,
    caller: Operator,
    since: Moment = None,
    until: Moment = None,
    group: Grouping = "project",
) -> Response:
    """What models were used for in all projects, by project, principal or model.

    Most requests first; principals are told by the log itself, so by the last 90 days at most.
    """
    report = await stack.usage.report_all(caller, since=since, until=until, group=group)
    shown = {
        "since": report.since,
        "until": report.until,
        "items": [_use_json(use) for use in report.items],
        "totals": _use_json(report.totals),
        "next_cursor": None,
    }
    return respond(shown)


def _slow_json(one: Slow) -> dict[str, object]:
    return {
        "kind": one.kind,
        "operation": one.label,
        "count": one.count,
        "worst_s": round(one.worst_s, 4),
        "mean_s": round(one.total_s / one.count, 4),
        "last_at": datetime.fromtimestamp(one.last_at).astimezone(),
        "request_id": one.request_id,
    }


def _use_json(use: UseOfAll) -> dict[str, object]:
    named = {"project_id": use.project_id, "project": use.project, "principal": use.principal}
    return {
        **{name: value for name, value in {**named, "model": use.model}.items() if value},
        "requests": use.requests,
        "cached": use.cached,
        "prompt_tokens": use.prompt_tokens,
        "completion_tokens": use.completion_tokens,
        "cost": use.cost,
        "mean_ms": use.mean_ms,
        "max_ms": use.max_ms,
    }
