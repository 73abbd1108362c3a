"""What a skill's process and whoever started it say to each other: a line of JSON a message.

Down: `{"run": {...}}` first, then `{"answer": N, "result"|"error": …}`. Up: `{"call": N, "ability",
"parameters"}`, last `{"result": …}` or `{"error": {"code", "message", "fields"}}`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ai_stack import errors
from ai_stack.errors import AIStackError, SkillFailed
from ai_stack.sandbox import Confinement
from ai_stack.skill import SkillResult

Message: TypeAlias = dict[str, Any]
LONGEST = 16 << 20
KINDS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, AIStackError)
}


@dataclass(frozen=True, slots=True)
class Order:
    """What the process is to do. Without arguments it tells the schema of those that it takes."""

    skill: str
    folder: str
    scratch: str
    confinement: Confinement
    arguments: Mapping[str, Any] | None


def encoded(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, default=str).encode() + b"\n"


def error_json(error: AIStackError) -> Message:
    return {"code": error.code, "message": error.message, "fields": error.fields}


def error_of(told: object) -> AIStackError:
    """The error that was told, of its own kind where that is known; whoever tells may lie."""
    said = told if isinstance(told, dict) else {}
    kind, fields = KINDS.get(str(said.get("code")), SkillFailed), said.get("fields")
    known = {str(k): str(v) for k, v in fields.items()} if isinstance(fields, dict) else {}
    return kind(str(said.get("message", "")), fields=known)


def result_json(result: SkillResult) -> Message:
    """What a skill gives back; SkillFailed for what is no JSON or too much of it."""
    found = {"output": dict(result.output), "summary": result.summary, "notes": [*result.notes]}
    try:
        size_bytes = len(json.dumps(found))
    except (TypeError, ValueError, RecursionError):
        raise SkillFailed("The skill's output is no JSON.") from None
    if size_bytes > LONGEST // 2:
        raise SkillFailed("The skill's output is too large: it belongs into a file.")
    return found
