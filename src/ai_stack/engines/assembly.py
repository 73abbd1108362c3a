"""An answer that was streamed, put together as if it had not been.

llama.cpp notices that a client left only while it streams, when it works for others besides. So
whatever it generates is streamed to here, also what was asked for as a whole. Only with logprobs
it is not, since a stream leaves some of them out where a sign has several tokens.
"""

from collections.abc import AsyncIterator
from typing import Any

import orjson

from ai_stack.engines import Reply
from ai_stack.engines.refusals import refusal
from ai_stack.engines.wire import strange
from ai_stack.errors import EngineBroken, EngineFailed, EngineUnavailable
from ai_stack.models.inference import Body

MAX_EVENT_BYTES = 8 << 20
JOINED = ("content", "reasoning_content", "refusal", "text", "arguments")
Json = dict[str, Any]


class Assembled:
    """A body that is here already."""

    media_type = "application/json"

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body

    async def aclose(self) -> None:
        """Nothing is held."""


def streamed(body: Body) -> Json:
    """The request for the stream of which `assembled` makes the answer."""
    options = body.get("stream_options")
    told = options if isinstance(options, dict) else {}
    return {**body, "stream": True, "stream_options": {**told, "include_usage": True}}


async def assembled(answer: Reply) -> Assembled:
    """The whole answer; EngineUnavailable when the stream breaks off, as nothing was passed on."""
    whole: Json = {}
    choices: dict[int, Json] = {}
    try:
        async for event in events(answer):
            if event == b"[DONE]":
                return Assembled(orjson.dumps(_finished(whole, choices)))
            _add(whole, choices, read_chunk(event))
    except EngineBroken as error:
        raise EngineUnavailable from error
    finally:
        await answer.aclose()
    raise EngineUnavailable


async def events(answer: Reply) -> AsyncIterator[bytes]:
    """The data of each event; what is no data is left out."""
    rest = b""
    async for part in answer:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        if len(rest) > MAX_EVENT_BYTES:
            raise EngineFailed("An event of the engine's answer is too large.")


def read_chunk(event: bytes) -> Json:
    """What an event tells, empty for nothing; an error in it is raised as what it means."""
    try:
        chunk = orjson.loads(event)
    except ValueError as error:
        raise strange() from error
    if chunk is None:  # llama.cpp begins so when there are several prompts
        return {}
    if not isinstance(chunk, dict) or not isinstance(chunk.get("choices", []), list):
        raise strange()
    if "error" in chunk:
        told = chunk["error"]
        code = told.get("code") if isinstance(told, dict) else None
        raise refusal(code if isinstance(code, int) else 500, event)
    return chunk


def _add(whole: Json, choices: dict[int, Json], chunk: Json) -> None:
    for piece in chunk.pop("choices", ()):
        place = piece.get("index", 0) if isinstance(piece, dict) else None
        if not isinstance(place, int):
            raise strange()
        _merge(choices.setdefault(place, {}), piece, "delta", "logprobs")
    whole.update(chunk)


def _merge(into: Json, piece: Json, *nested: str) -> None:
    """Add to what is there what came next of it; `nested` names what has parts of its own."""
    for name, value in piece.items():
        known = into.get(name)
        if name in nested and isinstance(value, dict):
            into[name] = known = known if isinstance(known, dict) else {}
            _merge(known, value)
        elif name == "tool_calls" and isinstance(value, list):
            _merge_calls(into, value)
        elif name in JOINED and isinstance(known, str) and isinstance(value, str):
            into[name] = known + value
        elif isinstance(value, list) and isinstance(known, list):
            known.extend(value)
        elif value is not None or name not in into:
            into[name] = value


def _merge_calls(message: Json, calls: list[Any]) -> None:
    """Pieces of tool calls, each telling the place of its call."""
    known = message.get("tool_calls")
    if not isinstance(known, list):
        known = message["tool_calls"] = []
    for call in calls:
        place = call.get("index", 0) if isinstance(call, dict) else None
        if not isinstance(place, int) or not 0 <= place <= len(known):
            raise strange()
        if place == len(known):
            known.append({})
        piece = {name: value for name, value in call.items() if name != "index"}
        _merge(known[place], piece, "function")


def _finished(whole: Json, choices: dict[int, Json]) -> Json:
    chat = whole.get("object") == "chat.completion.chunk"
    listed = [choices[place] for place in sorted(choices)]
    if chat:
        whole["object"] = "chat.completion"
        listed = [_spoken(choice) for choice in listed]
    return {"choices": listed, **whole}


def _spoken(choice: Json) -> Json:
    """A choice with its message; without any text, that is an empty one beside no calls."""
    told = choice.pop("delta", None)
    message = told if isinstance(told, dict) else {}
    if message.get("content") is None and not message.get("tool_calls"):
        message["content"] = ""
    return {**choice, "message": {"role": "assistant", **message}}
