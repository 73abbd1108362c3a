"""Health over REST."""

from fastapi import APIRouter, Response

from ai_stack.models.health import PartHealth
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import PUBLIC, JsonRoute, UseStack

router = APIRouter(prefix="/health", tags=["health"], route_class=JsonRoute)


@router.get("", dependencies=[PUBLIC])
async def health(stack: UseStack) -> Response:
    """How each part is; 503 without PostgreSQL."""
    found = await stack.health.check()
    services = {name: _part_json(part) for name, part in found.services.items()}
    body = {"status": found.status, "services": services, "version": found.version}
    return respond(body, 503 if found.status == "unhealthy" else 200)


@router.get("/live", dependencies=[PUBLIC])
async def live() -> Response:
    """The process answers."""
    return respond({"status": "healthy"})


@router.get("/ready", dependencies=[PUBLIC])
async def ready(stack: UseStack) -> Response:
    """The database answers, so requests can be served."""
    await stack.database.ping()
    return respond({"status": "healthy"})


def _part_json(part: PartHealth) -> dict[str, object]:
    shown: dict[str, object] = {"status": part.status, "latency_ms": part.latency_ms}
    if part.detail is not None:
        shown["detail"] = part.detail
    return shown
