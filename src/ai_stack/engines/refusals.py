"""What an engine's refusal means: its status and body as one of our errors."""

import re
from collections.abc import Iterator
from typing import Any

import orjson

from ai_stack.errors import (
    AIStackError,
    ContextTooLong,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    ModelNotFound,
    TooBusy,
)

LONGEST_MESSAGE = 500
NOT_OFFERED = "The engine of this model does not offer this operation."

# Roots of file systems, URLs and addresses: what an engine says of its own place is not shown.
_PLACES = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s'\"]+"
    r"|(?<![\w.])/(?:app|data|etc|home|mnt|models|nix|opt|private|root|run|srv|tmp|usr|Users|var"
    r"|workspace)/[^\s'\",:;)]*"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"(?:maximum (?:context|model) length|model's context length)(?: is(?: only)?| of)? \(?(\d+)"
)
_BATCH = re.compile(
    r"input \((\d+) tokens\) is too large.*\(current batch size: (\d+)\)", re.DOTALL
)
_NO_MEDIA = re.compile(r"(?:image|audio|video) input is not supported")
_ASKED = (
    re.compile(r"passed (\d+) input tokens and requested (\d+) output tokens"),
    re.compile(r"total of (?:at least )?(\d+) tokens"),
    re.compile(r"requested (?:about )?(\d+) tokens"),
    re.compile(r"resulted in (\d+) tokens"),
    re.compile(r"too large: (\d+)\..*?has (\d+) input tokens", re.DOTALL),
    re.compile(r"(?:has|contains) (?:at least )?(\d+) (?:input )?tokens"),
    re.compile(r"(?:prompt|input) \((?:total )?length (\d+)\)", re.IGNORECASE),
    re.compile(r"input length \((\d+)\)", re.IGNORECASE),
)


def refusal(status: int, body: bytes) -> AIStackError:
    """The error that an answer with this status, which is not 200, stands for."""
    if status in (408, 502, 503, 504):
        return EngineUnavailable()
    if status == 429:
        return TooBusy("The engine is full; try again shortly.")
    if status == 501:
        return InvalidRequest(NOT_OFFERED)
    error = _error(body)
    if status == 500:
        return _mistaken(error) or EngineFailed()
    if not 400 <= status < 500 or status in (401, 403, 407):
        return EngineFailed()
    if status in (404, 405):
        return _not_there(_message(error))
    return _too_long(error) or InvalidRequest(shown(_message(error)))


def _mistaken(error: dict[str, Any]) -> AIStackError | None:
    """What the request is to blame for, though llama.cpp calls it a failure of its own."""
    message = _message(error)
    if (found := _BATCH.search(message)) is not None:
        return too_long(int(found[1]), int(found[2]))
    return InvalidRequest(shown(message)) if _NO_MEDIA.search(message) else None


def shown(message: str) -> str:
    """An engine's message as a client may see it: printable, bounded, without places."""
    plain = "".join(sign if sign.isprintable() else " " for sign in message[: 8 * LONGEST_MESSAGE])
    text = " ".join(_PLACES.sub("…", plain).split())
    return text[:LONGEST_MESSAGE] or "The engine refuses this request."


def too_long(tokens: int | None, context: int, *, room: int = 0) -> ContextTooLong:
    """`tokens` are asked of a context of which all but `room` tokens may be asked."""
    fits = context - room
    if tokens is None or tokens <= fits:
        return ContextTooLong(f"The request has more tokens than the {context} of this context.")
    return ContextTooLong(
        f"The request has {tokens} tokens and {fits} fit in this context of {context}: "
        f"it is {tokens - fits} tokens too long."
    )


def _error(body: bytes) -> dict[str, Any]:
    """The error's object in any of the forms that servers use; empty when there is none."""
    try:
        told = orjson.loads(body)
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    inner = told.get("error", told)
    return inner if isinstance(inner, dict) else {"message": inner}


def _message(error: dict[str, Any]) -> str:
    told = error.get("message") or error.get("detail") or ""
    if isinstance(told, list):
        return "; ".join(_details(told))
    return told if isinstance(told, str) else ""


def _details(told: list[Any]) -> Iterator[str]:
    """Each problem of a FastAPI server's list, with the place it concerns."""
    for one in told:
        if isinstance(one, dict):
            place = one.get("loc")
            steps = [str(step) for step in place] if isinstance(place, list) else []
            yield f"{'.'.join(steps)}: {one.get('msg', '')}"


def _not_there(message: str) -> AIStackError:
    if "model" in message.lower():
        return ModelNotFound(shown(message))
    return InvalidRequest(NOT_OFFERED)


def _too_long(error: dict[str, Any]) -> ContextTooLong | None:
    told, context = error.get("n_prompt_tokens"), error.get("n_ctx")
    if isinstance(told, int) and isinstance(context, int):  # llama.cpp keeps one for its answer
        return too_long(told, context, room=1)
    message = _message(error)
    limit = _LIMIT.search(message)
    if limit is not None:
        return too_long(_asked(message), int(limit[1]))
    known = ("context_length_exceeded", "exceed_context_size_error")
    return ContextTooLong() if {error.get("code"), error.get("type")} & {*known} else None


def _asked(message: str) -> int | None:
    for pattern in _ASKED:
        if (found := pattern.search(message)) is not None:
            return sum(int(number) for number in found.groups())
    return None
