"""Reads a stream of server-sent events from an engine: whole events, each of them understood.

What is clean passes as the very bytes that came. Anything else raises EngineBroken, so that no
client sees half an event, text that is no JSON, or an end that was none.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from ai_stack.errors import EngineBroken
from ai_stack.models.inference import Usage

DONE = b"data: [DONE]\n\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_EVENT = 8 << 20
CONTENT = b'"content":"'
PLAIN_TEXT = re.compile(rb"[ !#-\[\]-~]*")  # ASCII that a JSON string holds as it is


@dataclass(slots=True)
class Stream:
    """One stream as it comes; `told` is called at the first event that carries content."""

    keeps_usage: bool
    told: Callable[[], None] = lambda: None
    usage: Usage | None = None
    finished: bool = False
    _rest: bytes = b""
    _told_any: bool = False
    _began: bool = field(default=False)
    _mould: "Mould | None" = None

    def feed(self, data: bytes) -> bytes:
        """What of the stream goes on to the client now; whole events only."""
        if self._mould is not None and not (self._rest or self.finished) and self._mould.fits(data):
            return data
        data = self._whole(data)
        events = data.split(b"\n\n")
        events.pop()
        kept, changed = [], False
        for event in events:
            if self._began and not self.finished and self._is_plain(event):
                kept.append(event)
                continue
            passed, _ = self._event(event)
            changed |= passed is not event
            if passed is not None:
                kept.append(passed)
        return data if not changed else b"".join(e + b"\n\n" for e in kept)

    def _is_plain(self, event: bytes) -> bool:
        """Whether an event is an ordinary chunk, of which nothing is to be learnt."""
        if self._mould is not None and self._mould.fits(event + b"\n\n"):
            return True
        if not _is_plain(event):
            return False
        self._mould = Mould.of(event)
        return True

    def events(self, data: bytes) -> list[tuple[bytes, dict[str, Any] | None]]:
        """The same, event by event, each with its chunk; [DONE] has none."""
        found = map(self._event, self._whole(data).split(b"\n\n")[:-1])
        return [(event, chunk) for event, chunk in found if event is not None]

    def _whole(self, data: bytes) -> bytes:
        """The events that are complete; what is left waits for more."""
        data = self._rest + data if self._rest else data
        if not self._told_any:
            self._told_any, data = True, data.removeprefix(BYTE_ORDER_MARK)
        if b"\r" in data:
            data = _unified(data)
        end = data.rfind(b"\n\n")
        end = 0 if end < 0 else end + 2
        self._rest = data[end:]
        if len(self._rest) > LONGEST_EVENT:
            raise EngineBroken("The engine sent an event without end.")
        return data[:end]

    def end(self) -> None:
        """Raise EngineBroken unless the stream has come to its own end."""
        if not self.finished:
            raise EngineBroken

    def _event(self, event: bytes) -> tuple[bytes | None, dict[str, Any] | None]:
        """What goes on of an event, and its chunk."""
        if self.finished:
            return None, None
        if not event.startswith(b"data: ") or b"\n" in event:
            event = _normal(event)
            if not event:
                return None, None
        payload = event[6:]
        if payload == b"[DONE]":
            self.finished = True
            return event, None
        if payload == b"null":  # how llama.cpp begins with several prompts
            return None, None
        chunk = _read(payload)
        return self._chunk(event, chunk), chunk

    def _chunk(self, event: bytes, chunk: dict[str, Any]) -> bytes | None:
        if "usage" in chunk:
            return self._counted(event, chunk)
        if not self._began and _has_content(chunk):
            self._began = True
            self.told()
        return event

    def _counted(self, event: bytes, chunk: dict[str, Any]) -> bytes | None:
        """A chunk that carries usage, without it where the client did not ask."""
        if chunk["usage"] is not None:
            self.usage = usage_of(chunk)
        if not self._began and _has_content(chunk):
            self._began = True
            self.told()
        if self.keeps_usage:
            return event
        if not chunk["choices"]:
            return None
        del chunk["usage"]
        return b"data: " + orjson.dumps(chunk)


@dataclass(frozen=True, slots=True)
class Mould:
    """What the chunks of a stream have in common: an engine changes nothing but the text.

    A chunk that was read tells what is before its text and what follows. What differs from it by
    a text without any escape is JSON as well, of the same form, and need not be read. As such a
    text has no quotes, what lies between two of them is found without doubt.
    """

    head: bytes
    tail: bytes
    between: bytes

    @classmethod
    def of(cls, event: bytes) -> "Mould | None":
        """The mould of an event that is JSON; None where its text is not to be found."""
        before, sign, after = event.partition(CONTENT)
        text, quote, rest = after.partition(b'"')
        if not quote or b"\\" in text:
            return None
        head, tail = before + sign, quote + rest + b"\n\n"
        return cls(head, tail, tail + head)

    def fits(self, events: bytes) -> bool:
        """Whether one event or several, each to its end, have this form."""
        start, stop = len(self.head), len(events) - len(self.tail)
        return (
            start <= stop
            and events.startswith(self.head)
            and events.endswith(self.tail)
            and PLAIN_TEXT.fullmatch(events[start:stop].replace(self.between, b"")) is not None
        )


def usage_of(answer: dict[str, Any]) -> Usage | None:
    """The usage that an answer or a chunk tells, None where it tells none that makes sense."""
    told = answer.get("usage")
    if not isinstance(told, dict):
        return None
    details = told.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens")
    return Usage(_count(prompt), _count(completion), _count(cached))


def _count(told: object) -> int:
    return told if type(told) is int and 0 <= told < 2**31 else 0


async def chunks(body: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a stream that has passed here before."""
    async for data in body:
        for event in data.split(b"\n\n"):
            if event.startswith(b"data: {"):
                yield orjson.loads(event[6:])


def _is_plain(event: bytes) -> bool:
    if event[:7] != b"data: {" or b"\n" in event:
        return False
    try:
        chunk = orjson.loads(event[6:])
    except orjson.JSONDecodeError:
        return False
    choices = chunk.get("choices")
    if type(choices) is not list or "usage" in chunk or "error" in chunk:
        return False
    return len(choices) == 1 and type(choices[0]) is dict


def _read(payload: bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise EngineBroken("The engine sent an event that is not JSON.") from error
    if not isinstance(chunk, dict) or chunk.get("error") is not None:
        raise EngineBroken
    choices = chunk.get("choices")
    if type(choices) is not list:
        raise EngineBroken("The engine sent an event without choices.")
    for choice in choices:
        if type(choice) is not dict:
            raise EngineBroken("The engine sent an event whose choices are none.")
    return chunk


def _has_content(chunk: dict[str, Any]) -> bool:
    for choice in chunk["choices"]:
        delta = choice.get("delta")
        if choice.get("text") or (
            isinstance(delta, dict)
            and any(delta.get(n) for n in ("content", "tool_calls", "reasoning_content"))
        ):
            return True
    return False


def _normal(event: bytes) -> bytes:
    """An event in its plainest form, empty for comments; EngineBroken for what is none."""
    data = []
    for line in event.split(b"\n"):
        name, colon, value = line.partition(b":")
        if name == b"data" and colon:
            data.append(value.removeprefix(b" "))
        elif name not in (b"", b"event", b"id", b"retry"):
            raise EngineBroken("The engine sent what is no server-sent event.")
    return b"data: " + b" ".join(data) if data else b""  # line ends are spaces to JSON


def _unified(data: bytes) -> bytes:
    """Line ends as LF; a CR at the very end may be half of one, and stays."""
    tail = b"\r" if data.endswith(b"\r") else b""
    body = data[: len(data) - len(tail)]
    return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + tail
