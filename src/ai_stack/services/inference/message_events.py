"""The events of a streamed Message, made from the chunks of a chat answer; pure.

Content blocks follow one another, each ended before the next begins, as clients of this API
expect. A call may get pieces until the end of an answer, so what comes after the first call waits
for that; such answers are short.
Source: Anthropic's API reference, "Streaming messages"; the types of the `anthropic` package.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from ai_stack.errors import EngineBroken, EngineFailed
from ai_stack.services.inference import dialects
from ai_stack.services.inference.dialects import Json, ToolCall, ToolCalls

Event = dict[str, Any]

STOP_REASONS = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
ERRORS = {
    "unauthenticated": "authentication_error",
    "forbidden": "permission_error",
    "not_found": "not_found_error",
    "model_not_found": "not_found_error",
    "invalid_request": "invalid_request_error",
    "context_length_exceeded": "invalid_request_error",
    "unsupported_media_type": "invalid_request_error",
    "too_large": "invalid_request_error",
    "too_busy": "rate_limit_error",
    "unavailable": "overloaded_error",
    "engine_unavailable": "overloaded_error",
    "database_unavailable": "overloaded_error",
    "deadline_exceeded": "timeout_error",
}
DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
PING: Event = {"type": "ping"}


def error(code: str, message: str, request_id: str | None = None) -> Event:
    """An error as this API tells it, in a body or as an event, from one of our own codes."""
    told = {"type": ERRORS.get(code, "api_error"), "message": message}
    return {"type": "error", "error": told, "request_id": request_id}


@dataclass(slots=True)
class Block:
    """A content block as far as it has come; `waiting` are deltas not yet sent."""

    kind: str
    number: int
    call: ToolCall | None = None
    call_id: str = ""
    texts: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    began: bool = False
    ended: bool = False

    def begun(self) -> dict[str, Any]:
        """The block without its content."""
        if self.call is not None:
            named = {"id": self.call_id, "name": self.call.name}
            return {"type": "tool_use", **named, "input": {}}
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        return {"type": "text", "text": "", "citations": None}

    def whole(self, *, cut: bool) -> dict[str, Any]:
        text = "".join(self.texts)
        filled = {"input": _input(text, cut=cut)} if self.call else {self.kind: text}
        return {**self.begun(), **filled}

    def delta(self, text: str) -> dict[str, Any]:
        if self.call is not None:
            return {"type": "input_json_delta", "partial_json": text}
        type, name = DELTAS[self.kind]
        return {"type": type, name: text}


class MessageStream:
    """Turns chunks into events; `message` is the Message as it stands, whole after the end."""

    def __init__(self, request: Json, id: str) -> None:
        self._id = id
        self._model = request.get("model") or ""
        self._stops = request.get("stop_sequences") or ()
        self._shows_thinking = _shows_thinking(request.get("thinking") or {})
        self._blocks: list[Block] = []
        self._live = 0
        self._calls = ToolCalls()
        self._called: dict[int, Block] = {}
        self._began = self._ended = False
        self._reason: str | None = None
        self._stop: str | None = None
        self._usage = _usage({})

    @property
    def message(self) -> dict[str, Any]:
        """The Message; EngineFailed for a call whose arguments are no JSON object.

        Arguments that were cut off at max_tokens are left out.
        """
        cut = self._stop_reason() == "max_tokens"
        return {**self._head(), "content": [b.whole(cut=cut) for b in self._blocks], **self._end()}

    def start(self) -> Iterator[Event]:
        """The events before the first chunk; the others begin with them if nobody asked."""
        if not self._began:
            self._began = True
            empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
            message = {**self._head(), **empty, "usage": _usage({})}
            yield {"type": "message_start", "message": message}
            yield PING

    def feed(self, chunk: Json) -> Iterator[Event]:
        """The events of one chunk."""
        if chunk.get("usage"):
            self._usage = _usage(chunk["usage"])
        if not self._model:
            self._model = chunk.get("model") or ""
        yield from self.start()
        choice = dialects.first_choice(chunk)
        if choice is None or self._ended:
            return
        yield from self._delta(choice.get("delta") or {})
        self._reason = choice.get("finish_reason") or self._reason
        if choice.get("stop_reason") in self._stops:  # vLLM tells which one it was
            self._stop = choice["stop_reason"]

    def finish(self, completed_at: float | None = None) -> Iterator[Event]:
        """The events of the end. A stream that told no reason to end has failed."""
        yield from self.start()
        if self._ended:
            return
        if not self._reason:
            yield from self.fail(EngineBroken.code, str(EngineBroken.__doc__))
            return
        self._ended = True
        for call in self._calls.all:
            if call.number not in self._called:
                self._show(call)
        for block in self._blocks:
            block.ended = True
        yield from self._sent()
        end = self._end()
        usage = end.pop("usage")
        yield {"type": "message_delta", "delta": end, "usage": usage}
        yield {"type": "message_stop"}

    def fail(self, code: str, message: str) -> Iterator[Event]:
        """The event of a failure, with one of our own codes; nothing comes after it."""
        if not self._ended:
            self._ended = True
            yield error(code, message)

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self._model}

    def _end(self) -> dict[str, Any]:
        reason, stop = self._stop_reason(), self._stop
        stopped = {
            "stop_reason": reason,
            "stop_sequence": stop if reason == "stop_sequence" else None,
        }
        return {**stopped, "usage": self._usage}

    def _stop_reason(self) -> str | None:
        if self._reason is None:
            return None
        if self._reason in STOP_REASONS:
            return STOP_REASONS[self._reason]
        if self._called:  # some engines call it a stop
            return "tool_use"
        return "stop_sequence" if self._stop is not None else "end_turn"

    def _delta(self, delta: Json) -> Iterator[Event]:
        for kind, text in dialects.texts_of(delta):
            if kind != "reasoning":
                self._write("text", text)
            elif self._shows_thinking:
                self._write("thinking", text)
        for piece in delta.get("tool_calls") or ():
            self._call(*self._calls.add(piece))
        yield from self._sent()

    def _write(self, kind: str, text: str) -> None:
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.kind != kind:
            block = self._new(kind)
        block.texts.append(text)
        block.waiting.append(text)

    def _call(self, call: ToolCall, added: str) -> None:
        block = self._called.get(call.number)
        if block is None:
            if call.name:
                self._show(call)
        elif added:
            block.texts.append(added)
            block.waiting.append(added)

    def _show(self, call: ToolCall) -> None:
        block = self._called[call.number] = self._new("tool_use")
        block.call = call
        block.call_id = call.id or f"toolu_{self._id.removeprefix('msg_')}{call.number:02x}"
        block.texts, block.waiting = list(call.pieces), list(call.pieces)

    def _new(self, kind: str) -> Block:
        """A new block, by which a text before it is ended."""
        if self._blocks and self._blocks[-1].call is None:
            self._blocks[-1].ended = True
        block = Block(kind, len(self._blocks))
        self._blocks.append(block)
        return block

    def _sent(self) -> Iterator[Event]:
        """What may be told by now: of the first block that has not ended, and of those before."""
        while self._live < len(self._blocks):
            block = self._blocks[self._live]
            yield from self._told(block)
            if not block.ended:
                return
            if block.kind == "thinking":
                yield _delta_event(block, {"type": "signature_delta", "signature": ""})
            yield {"type": "content_block_stop", "index": block.number}
            self._live += 1

    def _told(self, block: Block) -> Iterator[Event]:
        if not block.began:
            block.began = True
            head = {"index": block.number, "content_block": block.begun()}
            yield {"type": "content_block_start", **head}
        for text in block.waiting:
            yield _delta_event(block, block.delta(text))
        block.waiting.clear()


def _delta_event(block: Block, delta: dict[str, Any]) -> Event:
    return {"type": "content_block_delta", "index": block.number, "delta": delta}


def _shows_thinking(thinking: Json) -> bool:
    asked = thinking.get("type") not in (None, "disabled")
    return asked and thinking.get("display") != "omitted"


def _input(text: str, *, cut: bool) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        input = orjson.loads(text)
    except orjson.JSONDecodeError:
        input = None
    if isinstance(input, dict):
        return input
    if cut:
        return {}
    raise EngineFailed("The model called a tool with arguments that are no JSON object.")


def _usage(usage: Json) -> dict[str, Any]:
    """Tokens in the names of this dialect, where those read from a cache are counted apart."""
    cached = dialects.count(usage, "prompt_tokens_details", "cached_tokens")
    return {
        "input_tokens": max(0, dialects.count(usage, "prompt_tokens") - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": dialects.count(usage, "completion_tokens"),
    }
