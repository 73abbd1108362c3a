"""Failures over MCP, translated once, here: a library's own text never reaches a client."""

import logging
from collections.abc import Mapping

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import ValidationError

from ai_stack.errors import AIStackError, InvalidRequest, NotFound, Unauthenticated

log = logging.getLogger(__name__)
TOLD_FIELDS = 8


def told(error: AIStackError) -> str:
    """A failure in a few lines, the fields that were wrong below it."""
    lines = [f"{name}: {reason}" for name, reason in list(error.fields.items())[:TOLD_FIELDS]]
    return "\n".join([error.message, *lines])


def invalid(error: ValidationError) -> InvalidRequest:
    """Arguments that a tool does not take, field by field."""
    found = {
        ".".join(str(part) for part in one["loc"]) or "arguments": str(one["msg"])
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    }
    return InvalidRequest("These arguments are not what this tool takes.", fields=found)


def unexpected(request_id: str) -> AIStackError:
    """What is told of a failure that nobody raised on purpose; call it where that is caught."""
    log.exception("request %s failed unexpectedly", request_id)
    return AIStackError(f"{AIStackError().message} (request {request_id})")


def protocol_error(error: AIStackError, data: Mapping[str, str] | None = None) -> MCPError:
    """The same failure where MCP has no result that says so: resources and prompts."""
    clients_fault = error.status < 500 and not isinstance(error, Unauthenticated)
    code = INVALID_PARAMS if clients_fault else INTERNAL_ERROR
    return MCPError(code, told(error), None if data is None else dict(data))


def resource_not_found(uri: str) -> MCPError:
    """No resource has this URI (SEP-2164)."""
    return protocol_error(NotFound(f"There is no resource {uri[:500]}."), {"uri": uri[:2000]})
