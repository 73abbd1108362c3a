"""Health over REST."""

import asyncio

from fastapi import APIRouter, Request, Response

from ai_stack.errors import AIStackError, Unavailable
from ai_stack.models.health import PartHealth
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import PUBLIC, JsonRoute, UseStack
from ai_stack.stack import Stack

KNOWN_S = 0.5  # strangers may keep the look-ups busy, and health is asked by who is in a hurry

router = APIRouter(prefix="/health", tags=["health"], route_class=JsonRoute)


@router.get("", dependencies=[PUBLIC])
async def health(stack: UseStack, request: Request) -> Response:
    """How each part is, in detail for known callers; 503 without PostgreSQL."""
    found, known = await stack.health.check(), await _is_known(stack, request)
    services = {name: _part_json(part, known) for name, part in found.services.items()}
    body = {"status": found.status, "services": services, "version": found.version}
    return respond(body, 503 if found.status == "unhealthy" else 200)


@router.get("/live", dependencies=[PUBLIC])
async def live() -> Response:
    """The process answers."""
    return respond({"status": "healthy"})


@router.get("/ready", dependencies=[PUBLIC])
async def ready(stack: UseStack) -> Response:
    """The database answers, so requests can be served; 503 also from a gateway that ends soon."""
    if stack.health.leaving.gone:
        raise Unavailable("This gateway is about to end; ask another one.")
    await stack.database.ping()
    return respond({"status": "healthy"})


async def _is_known(stack: Stack, request: Request) -> bool:
    """Whether it is known in time who asks; whoever is not is told no details."""
    try:
        async with asyncio.timeout(KNOWN_S):
            await stack.identity.resolve(request.state.carried)
    except (AIStackError, TimeoutError):
        return False
    return True


def _part_json(part: PartHealth, known: bool) -> dict[str, object]:
    shown: dict[str, object] = {"status": part.status, "latency_ms": part.latency_ms}
    if part.detail is not None and known:
        shown["detail"] = part.detail
    return shown
