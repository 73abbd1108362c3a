"""Failures as OpenAI's clients, and Anthropic's, know them."""

import logging

from ai_stack.errors import (
    AIStackError,
    ContextTooLong,
    EngineFailed,
    InvalidRequest,
    LimitExceeded,
    TooBusy,
    Unauthenticated,
    Unavailable,
)

log = logging.getLogger(__name__)

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def status_of(error: AIStackError) -> int:
    """OpenAI answers 400 where REST says 422."""
    return 400 if error.status == 422 else error.status


def headers_of(error: AIStackError) -> list[tuple[bytes, bytes]]:
    if isinstance(error, Unauthenticated):
        return [(b"www-authenticate", b'Bearer realm="AI Stack"')]
    if isinstance(error, LimitExceeded):
        return [(b"retry-after", b"%d" % error.opens_in_s)]
    return [(b"retry-after", b"1")] if isinstance(error, TooBusy | Unavailable) else []


def openai_error(error: AIStackError, request_id: str) -> dict[str, object]:
    """`{"error": {message, type, param, code}}`, with the request's id beside them."""
    status = status_of(error)
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    told = {
        "message": error.message,
        "type": kind,
        "param": _param(error),
        "code": error.code,
        "request_id": request_id,
    }
    return {"error": told}


def anthropic_error(error: AIStackError, request_id: str) -> dict[str, object]:
    status = status_of(error)
    kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": request_id,
    }


def tell(error: AIStackError, request_id: str) -> None:
    """To the log, what is the stack's own fault."""
    if isinstance(error, EngineFailed):
        log.warning("%s: %s", request_id, error)
    elif error.status >= 500 and not isinstance(error, Unavailable | TooBusy):
        log.error("%s: %s", request_id, error, exc_info=error)


def _param(error: AIStackError) -> str | None:
    if isinstance(error, ContextTooLong):
        found = next(iter(error.fields), "messages")
        return "input" if found.isdecimal() else found  # the embedder names texts by their place
    return next(iter(error.fields), None) if isinstance(error, InvalidRequest) else None
