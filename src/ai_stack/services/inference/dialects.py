"""What the dialects of other interfaces share: fields checked by a table, and chat answers read.

A dialect is translated to a chat request, and from chunks of a chat answer. An answer that came
whole is one chunk, so that streamed and whole answers cannot differ.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ai_stack.errors import InvalidRequest
from ai_stack.services.inference.requests import Field

Json = Mapping[str, Any]

TEXTS = (("reasoning_content", "reasoning"), ("content", "text"), ("refusal", "refusal"))


def refusal(name: str, reason: str) -> InvalidRequest:
    """What is raised for a field; `name` is its path in the request, as `input[2].type`."""
    reason = reason[:300]
    return InvalidRequest(f"{name[:100]}: {reason}.", fields={name[:100]: reason})


def check(fields: Mapping[str, Field], request: Json, required: Collection[str]) -> None:
    """Raise InvalidRequest for a field that is unknown, of another form, or missing."""
    for name, value in request.items():
        known = fields.get(name)
        if known is None:
            raise refusal(name, "this field is not known here")
        if value is not None and not known.check(value):
            raise refusal(name, f"must be {known.form}")
    for name in required:
        if request.get(name) is None:
            raise refusal(name, "this field is required")


def text_of(value: Any, name: str) -> str:
    """A text of a request."""
    if not isinstance(value, str):
        raise refusal(name, "must be a text")
    return value


def object_of(value: Any, name: str) -> dict[str, Any]:
    """An object of a request."""
    if not isinstance(value, dict):
        raise refusal(name, "must be an object")
    return value


def list_of(value: Any, name: str) -> list[Any]:
    """A list of a request."""
    if not isinstance(value, list):
        raise refusal(name, "must be a list")
    return value


@dataclass(slots=True)
class ToolCall:
    """A tool call as far as its pieces have come; `number` counts from 0 within an answer."""

    number: int
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class ToolCalls:
    """The tool calls of one answer, each piece put to the call that it belongs to.

    Engines differ: some leave the index out, some give every parallel call the index 0 and an id
    of its own, some give the arguments as an object.
    """

    def __init__(self) -> None:
        self.all: list[ToolCall] = []
        self._by_index: dict[int, ToolCall] = {}

    def add(self, piece: Json) -> tuple[ToolCall, str]:
        """The call that a piece belongs to, and what the piece adds to its arguments."""
        told = piece.get("function")
        function: Json = told if isinstance(told, Mapping) else {}
        call = self._call(piece, function)
        call.id = call.id or _string(piece.get("id"))
        call.name = call.name or _string(function.get("name"))
        added = _arguments(function.get("arguments"))
        if added:
            call.pieces.append(added)
        return call, added

    def _call(self, piece: Json, function: Json) -> ToolCall:
        index, id = piece.get("index"), _string(piece.get("id"))
        known = self._by_index.get(index) if type(index) is int else self._last(id)
        if known is None or (id and known.id and id != known.id and function.get("name")):
            known = ToolCall(len(self.all))
            self.all.append(known)
            if type(index) is int:
                self._by_index[index] = known
        return known

    def _last(self, id: str) -> ToolCall | None:
        """The call that a piece without index continues: the last one, unless it names another."""
        if not self.all or (id and id != self.all[-1].id):
            return None
        return self.all[-1]


def chunk_of(answer: Json) -> dict[str, Any]:
    """A whole chat answer as one chunk of a stream."""
    choices = []
    for choice in answer.get("choices") or ():
        message = dict(choice.get("message") or {})
        calls = message.get("tool_calls") or ()
        message["tool_calls"] = [{**call, "index": n} for n, call in enumerate(calls)]
        reason = choice.get("finish_reason") or "stop"
        choices.append({**choice, "delta": message, "finish_reason": reason})
    return {**answer, "choices": choices}


def texts_of(delta: Json) -> Iterator[tuple[str, str]]:
    """(kind, text) of what a delta adds, kind being reasoning, text or refusal; empty ones not."""
    for name, kind in TEXTS:
        text = delta.get(name)
        if isinstance(text, str) and text:
            yield kind, text


def first_choice(chunk: Json) -> Json | None:
    """The choice that the dialects show: they know no `n`."""
    for choice in chunk.get("choices") or ():
        if isinstance(choice, Mapping) and not choice.get("index"):
            return choice
    return None


def count(usage: Json, *path: str) -> int:
    """A number of tokens from a chat answer's usage; 0 where it tells none."""
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if type(value) is int and value > 0 else 0


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(value).decode()
