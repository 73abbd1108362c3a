"""Health over MCP."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from ai_stack.mcp.calls import Call
from ai_stack.mcp.tools import READS, Answer, NoArguments, Tool
from ai_stack.models.health import PartHealth
from ai_stack.models.principals import Scope


class Part(TypedDict):
    status: Literal["healthy", "degraded", "unhealthy", "disabled"]
    latency_ms: float
    detail: NotRequired[str]


class Healthy(TypedDict):
    status: Literal["healthy", "degraded", "unhealthy"]
    services: dict[str, Part]
    version: str


async def health(call: Call, _: NoArguments) -> Answer:
    """How each part of the stack is: the database, the cache, the vector index, the models."""
    found = await call.stack.health.check()
    services = {name: _part(part) for name, part in found.services.items()}
    return {"status": found.status, "services": services, "version": found.version}


def _part(part: PartHealth) -> dict[str, object]:
    shown: dict[str, object] = {"status": part.status, "latency_ms": part.latency_ms}
    return shown if part.detail is None else {**shown, "detail": part.detail}


TOOLS = (Tool(health, "Health of the stack", NoArguments, Healthy, READS, scope=Scope.READ),)
