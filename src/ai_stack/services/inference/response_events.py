"""The events of a streamed Response, made from the chunks of a chat answer; pure.

The items of the output follow one another: what the model thinks, what it says, its calls. Calls
stay open until the end, since the pieces of parallel calls may alternate.
Source: OpenAI's API reference, "Streaming events"; the types of the `openai` package.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_stack.errors import EngineBroken
from ai_stack.services.inference import dialects
from ai_stack.services.inference.dialects import Json, ToolCall, ToolCalls
from ai_stack.services.inference.response_items import item_id

Event = dict[str, Any]

PARTS = {"text": "output_text", "refusal": "refusal", "reasoning": "reasoning_text"}
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
CODES = {  # the only codes of the schema that fit; our own is told as the error's type
    "too_busy": "rate_limit_exceeded",
    "invalid_request": "invalid_prompt",
    "context_length_exceeded": "invalid_prompt",
}
ECHOED = (
    *("instructions", "max_output_tokens", "max_tool_calls", "previous_response_id"),
    *("prompt_cache_key", "safety_identifier", "temperature", "top_p", "user"),
)


def shell(request: Json, id: str, created_at: float) -> dict[str, Any]:
    """A Response as it is before anything was answered."""
    return {
        "id": id,
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        **{name: request.get(name) for name in ECHOED},
        "metadata": request.get("metadata") or {},
        "model": request.get("model") or "",
        "output": [],
        "parallel_tool_calls": request.get("parallel_tool_calls") is not False,
        "reasoning": _chosen(request.get("reasoning"), "effort", "summary"),
        "service_tier": "default",
        "text": {"format": {"type": "text"}, **_given(request.get("text"), "format", "verbosity")},
        "tool_choice": _tool_choice(request.get("tool_choice")),
        "tools": [_function(tool) for tool in request.get("tools") or ()],
        "top_logprobs": request.get("top_logprobs") or 0,
        "truncation": "disabled",
        "usage": None,
    }


def _chosen(fields: Json | None, *names: str) -> dict[str, Any]:
    return {name: (fields or {}).get(name) for name in names}


def _given(fields: Json | None, *names: str) -> dict[str, Any]:
    return {name: v for name, v in _chosen(fields, *names).items() if v is not None}


def _function(tool: Json) -> dict[str, Any]:
    named = _given(tool.get("function", tool), "name", "description", "parameters", "strict")
    return {"type": "function", "parameters": None, "strict": False, **named}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict) and "function" in choice:
        return {"type": "function", "name": choice["function"].get("name")}
    return choice or "auto"


@dataclass(slots=True)
class Piece:
    """A part of an item: text that the model says, its refusal, or what it thinks."""

    kind: str
    number: int
    texts: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def shown(self) -> dict[str, Any]:
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": self.text}
        shown = {"type": PARTS[self.kind], "text": self.text}
        if self.kind == "text":
            return {**shown, "annotations": [], "logprobs": list(self.logprobs)}
        return shown


@dataclass(slots=True)
class Item:
    """An item of the output: a message or reasoning with its parts, or a call."""

    type: str
    number: int
    id: str
    parts: list[Piece] = field(default_factory=list)
    call: ToolCall | None = None
    call_id: str = ""
    status: str = "in_progress"

    def shown(self) -> dict[str, Any]:
        head = {"id": self.id, "type": self.type, "status": self.status}
        if self.call is not None:
            named = {"name": self.call.name, "arguments": self.call.arguments}
            return {**head, "call_id": self.call_id, **named}
        content = [part.shown() for part in self.parts]
        if self.type == "reasoning":
            return {**head, "summary": [], "content": content}
        return {**head, "role": "assistant", "content": content}


class ResponseStream:
    """Turns chunks into events; `response` is the Response as it stands, whole after the end."""

    def __init__(self, request: Json, id: str, created_at: float) -> None:
        self.response = shell(request, id, created_at)
        self._shell = self.response
        self._items: list[Item] = []
        self._writing: Item | None = None
        self._calls = ToolCalls()
        self._called: dict[int, Item] = {}
        self._number = 0
        self._began = self._ended = False
        self._reason = ""
        self._usage: dict[str, Any] | None = None
        self._logprobs: list[dict[str, Any]] = []

    def start(self) -> Iterator[Event]:
        """The events before the first chunk; the others begin with them if nobody asked."""
        if not self._began:
            self._began = True
            yield self._event("response.created", response=self._shell)
            yield self._event("response.in_progress", response=self._shell)

    def feed(self, chunk: Json) -> Iterator[Event]:
        """The events of one chunk."""
        yield from self.start()
        if chunk.get("usage"):
            self._usage = _usage(chunk["usage"])
        if not self._shell["model"]:
            self._shell["model"] = chunk.get("model") or ""
        choice = dialects.first_choice(chunk)
        if choice is None or self._ended:
            return
        delta = choice.get("delta") or {}
        if delta.get("content") or not delta.get("reasoning_content"):
            self._logprobs += _logprobs(choice)
        yield from self._delta(delta)
        self._reason = choice.get("finish_reason") or self._reason

    def finish(self, completed_at: float | None = None) -> Iterator[Event]:
        """The events of the end. A stream that told no reason to end has failed."""
        yield from self.start()
        if self._ended:
            return
        if not self._reason:
            yield from self.fail(EngineBroken.code, str(EngineBroken.__doc__))
            return
        incomplete = INCOMPLETE.get(self._reason)
        yield from self._close_all("incomplete" if incomplete else "completed")
        details = {"incomplete_details": {"reason": incomplete}} if incomplete else {}
        status = "incomplete" if incomplete else "completed"
        yield self._end(status, completed_at=completed_at, **details)

    def fail(self, code: str, message: str) -> Iterator[Event]:
        """The events of a failure, with one of our own codes; what came stays in the output."""
        yield from self.start()
        if self._ended:
            return
        for item in self._items:
            item.status = "completed" if item.status == "completed" else "incomplete"
        error = {"code": CODES.get(code, "server_error"), "message": message, "type": code}
        yield self._end("failed", error=error)

    def _end(self, status: str, **more: object) -> Event:
        self._ended = True
        output = [item.shown() for item in self._items]
        self.response = {
            **self._shell,
            "status": status,
            "output": output,
            "usage": self._usage,
            **more,
        }
        return self._event(f"response.{status}", response=self.response)

    def _event(self, type: str, **fields: object) -> Event:
        event = {"type": type, "sequence_number": self._number, **fields}
        self._number += 1
        return event

    def _delta(self, delta: Json) -> Iterator[Event]:
        for kind, text in dialects.texts_of(delta):
            yield from self._write(kind, text)
        for piece in delta.get("tool_calls") or ():
            yield from self._call(*self._calls.add(piece))

    def _write(self, kind: str, text: str) -> Iterator[Event]:
        type = "reasoning" if kind == "reasoning" else "message"
        item = self._writing
        if item is None or item.type != type:
            yield from self._close_writing()
            item = self._writing = self._new(type, "rs" if type == "reasoning" else "msg")
            yield self._event("response.output_item.added", **_item(item))
        if not item.parts or item.parts[-1].kind != kind:
            yield from self._close_part(item)
            item.parts.append(Piece(kind, len(item.parts)))
            yield self._part_event("response.content_part.added", item)
        part = item.parts[-1]
        part.texts.append(text)
        yield self._text_event("delta", item, delta=text, **self._likely(part))

    def _likely(self, part: Piece) -> dict[str, Any]:
        """The log-probabilities that came since the last text, for the events of texts only."""
        if part.kind != "text":
            return {}
        came, self._logprobs = self._logprobs, []
        part.logprobs += came
        return {"logprobs": _without_bytes(came)}

    def _call(self, call: ToolCall, added: str) -> Iterator[Event]:
        """A call is shown from when its name is known, with the arguments that came by then."""
        item = self._called.get(call.number)
        if item is not None:
            if added:
                yield self._arguments("delta", item, delta=added)
        elif call.name:
            yield from self._close_writing()
            yield from self._show(call)

    def _show(self, call: ToolCall) -> Iterator[Event]:
        item = self._called[call.number] = self._new("function_call", "fc")
        item.call_id = call.id or f"call_{item.id.removeprefix('fc_')}"
        arguments, call.pieces = call.arguments, []
        item.call = call
        yield self._event("response.output_item.added", **_item(item))
        call.pieces = [arguments] if arguments else []
        if arguments:
            yield self._arguments("delta", item, delta=arguments)

    def _new(self, type: str, prefix: str) -> Item:
        number = len(self._items)
        item = Item(type, number, item_id(prefix, self._shell["id"], number))
        self._items.append(item)
        return item

    def _close_all(self, last: str) -> Iterator[Event]:
        """End all items in their order; the last one may be incomplete."""
        for call in self._calls.all:
            if call.number not in self._called:
                yield from self._show(call)
        for item in self._items:
            if item.status == "in_progress":
                yield from self._close(item, last if item is self._items[-1] else "completed")

    def _close_writing(self) -> Iterator[Event]:
        if self._writing is not None:
            yield from self._close(self._writing, "completed")
            self._writing = None

    def _close(self, item: Item, status: str) -> Iterator[Event]:
        if item.call is not None:
            yield self._arguments("done", item, arguments=item.call.arguments)
        yield from self._close_part(item)
        item.status = status
        yield self._event("response.output_item.done", **_item(item))

    def _close_part(self, item: Item) -> Iterator[Event]:
        if not item.parts:
            return
        part = item.parts[-1]
        if part.kind == "text":
            self._likely(part)
        named = "refusal" if part.kind == "refusal" else "text"
        told: dict[str, Any] = {named: part.text}
        if part.kind == "text":
            told["logprobs"] = _without_bytes(part.logprobs)
        yield self._text_event("done", item, **told)
        yield self._part_event("response.content_part.done", item)

    def _part_event(self, type: str, item: Item) -> Event:
        part = item.parts[-1]
        return self._event(type, **_place(item), content_index=part.number, part=part.shown())

    def _text_event(self, what: str, item: Item, **more: object) -> Event:
        part = item.parts[-1]
        type = f"response.{PARTS[part.kind]}.{what}"
        return self._event(type, **_place(item), content_index=part.number, **more)

    def _arguments(self, what: str, item: Item, **more: object) -> Event:
        type = f"response.function_call_arguments.{what}"
        return self._event(type, **_place(item), **more)


def _place(item: Item) -> dict[str, Any]:
    return {"item_id": item.id, "output_index": item.number}


def _item(item: Item) -> dict[str, Any]:
    return {"output_index": item.number, "item": item.shown()}


def _usage(usage: Json) -> dict[str, Any]:
    """Tokens in the names of this dialect."""
    prompt, completion = (dialects.count(usage, f"{n}_tokens") for n in ("prompt", "completion"))
    cached = dialects.count(usage, "prompt_tokens_details", "cached_tokens")
    thought = dialects.count(usage, "completion_tokens_details", "reasoning_tokens")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": prompt + completion,
    }


def _logprobs(choice: Json) -> list[dict[str, Any]]:
    told = (choice.get("logprobs") or {}).get("content") or ()
    return [
        {**_logprob(token), "top_logprobs": [_logprob(t) for t in token.get("top_logprobs") or ()]}
        for token in told
    ]


def _logprob(token: Json) -> dict[str, Any]:
    text = str(token.get("token", ""))
    given = token.get("bytes")
    return {
        "token": text,
        "bytes": list(text.encode()) if given is None else list(given),
        "logprob": token.get("logprob"),
    }


def _without_bytes(logprobs: Sequence[Json]) -> list[dict[str, Any]]:
    """Log-probabilities as the events tell them; the parts of an item have the bytes too."""
    return [
        {**_bare(token), "top_logprobs": [_bare(top) for top in token["top_logprobs"]]}
        for token in logprobs
    ]


def _bare(token: Json) -> dict[str, Any]:
    return {"token": token["token"], "logprob": token["logprob"]}
