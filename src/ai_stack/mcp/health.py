"""Health over MCP."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from ai_stack.mcp.calls import Call
from ai_stack.mcp.tools import READS, Answer, NoArguments, Tool


class Part(TypedDict):
    status: Literal["healthy", "degraded", "unhealthy", "disabled"]
    latency_ms: float
    detail: NotRequired[str | None]


class Healthy(TypedDict):
    status: Literal["healthy", "degraded", "unhealthy"]
    services: dict[str, Part]
    version: str


async def health(call: Call, _: NoArguments) -> Answer:
    """How each part of the stack is: the database, the cache, the vector index, the models."""
    found = await call.stack.health.check()
    return {"status": found.status, "services": found.services, "version": found.version}


TOOLS = (Tool(health, "Health of the stack", NoArguments, Healthy, READS),)
