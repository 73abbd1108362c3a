"""A stream of chat chunks in which calls are held back until they are complete, and repaired.

What cannot be a call passes at once, as the bytes that came. What was held and was well-formed is
given on as the very bytes, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from ai_stack.services.inference.call_signs import OVERLAP, Signs, Verdict
from ai_stack.services.inference.fitting import spelled
from ai_stack.services.inference.functions import Functions
from ai_stack.services.inference.repair import Repair, repaired

Chunk = Mapping[str, object]
MOST_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Choice:
    """One answer of the stream: its text, its calls, and the chunks held of it.

    `passed` are the characters of the text that the reader has.
    """

    text: str = ""
    passed: int = 0
    scanned: int = 0
    verdict: Verdict = "no"
    given_up: bool = False
    finish: str | None = None
    calls: dict[int, dict[str, object]] = field(default_factory=dict)
    held: list[tuple[Chunk, bytes]] = field(default_factory=list)
    held_bytes: int = 0

    def released(self) -> list[bytes]:
        """The bytes that were held; they count as passed."""
        out = [raw for _, raw in self.held]
        self.passed, self.held, self.held_bytes = len(self.text), [], 0
        return out

    def message(self) -> dict[str, object]:
        calls = [_assembled(call) for _, call in sorted(self.calls.items())]
        return {"role": "assistant", "content": self.text or None, "tool_calls": calls}


class HeldCalls:
    """Feed it every chunk with its bytes (one event of the stream), then close it.

    A complete answer with calls that failed waits in `waiting`, by the index of its choice: the
    caller may `settle` it with a better repair. The next feed, or close, gives it on as it is.
    """

    def __init__(self, tools: Sequence[Mapping[str, object]], tool_choice: object = None) -> None:
        self.waiting: dict[int, Repair] = {}
        self.repairs: list[Repair] = []
        self._tools = tools
        self._choice = tool_choice
        functions = Functions(tools, tool_choice)
        self._signs = Signs(
            known=lambda name: functions.find(name) is not None,
            begins=lambda part: any(spelled(name).startswith(spelled(part)) for name in functions),
            forced=functions.forced is not None,
        )
        self._lifts = bool(functions)
        self._choices: dict[int, _Choice] = {}

    def feed(self, chunk: Chunk, raw: bytes) -> list[bytes]:
        """What may go to the reader once this chunk has come."""
        out = [data for index in list(self.waiting) for data in self.settle(index)]
        choices = chunk.get("choices")
        if not isinstance(choices, list) or len(choices) != 1:
            return [*out, *self._ended(), raw]
        part = choices[0]
        choice = self._choices.setdefault(int(part.get("index") or 0), _Choice())
        if choice.given_up:
            return [*out, raw]
        self._take(choice, part)
        return [*out, *self._decided(choice, chunk, raw)]

    def close(self) -> list[bytes]:
        """What is still held, when no chunk comes any more."""
        out = [data for index in list(self.waiting) for data in self.settle(index)]
        return [*out, *self._ended()]

    def settle(self, index: int, repair: Repair | None = None) -> list[bytes]:
        """Gives a waiting answer on: as far as it was repaired, or as `repair` has it."""
        own = self.waiting.pop(index)
        return self._given(self._choices[index], repair or own)

    def _take(self, choice: _Choice, part: Mapping[str, object]) -> None:
        delta = part.get("delta")
        if isinstance(delta, dict):
            choice.text += str(delta.get("content") or "")
            for call in delta.get("tool_calls") or []:
                _add(choice.calls, call)
        finish = part.get("finish_reason")
        choice.finish = str(finish) if finish else None

    def _decided(self, choice: _Choice, chunk: Chunk, raw: bytes) -> list[bytes]:
        if choice.verdict != "yes":
            self._look(choice)
        if choice.verdict == "no":
            return [*choice.released(), raw]
        choice.held.append((chunk, raw))
        choice.held_bytes += len(raw)
        if choice.held_bytes > MOST_BYTES:
            choice.given_up = True
            return choice.released()
        return self._completed(choice) if choice.finish else []

    def _look(self, choice: _Choice) -> None:
        """Sees whether what has come may be a call."""
        if choice.calls:
            choice.verdict = "yes"
            return
        if not self._lifts:
            return
        found = self._signs.first(choice.text, choice.scanned)
        choice.verdict = found[1] if found else "no"
        if found:
            choice.scanned = found[0]
        else:
            choice.scanned = max(choice.scanned, len(choice.text) - OVERLAP)

    def _ended(self) -> list[bytes]:
        """What becomes of the answers that no chunk ended."""
        open_ones = [choice for choice in self._choices.values() if choice.held]
        return [data for choice in open_ones for data in choice.released()]

    def _completed(self, choice: _Choice) -> list[bytes]:
        cut = choice.finish == "length"
        repair = repaired(choice.message(), self._tools, self._choice, cut=cut)
        self.repairs.append(repair)
        if repair.failed:
            self.waiting[next(i for i, c in self._choices.items() if c is choice)] = repair
            return []
        return self._given(choice, repair)

    def _given(self, choice: _Choice, repair: Repair) -> list[bytes]:
        if not repair.changed:
            return choice.released()
        out = list(_rewritten(choice, repair))
        choice.released()
        return out


def _rewritten(choice: _Choice, repair: Repair) -> Iterator[bytes]:
    """The held part of an answer as new chunks: the text, then each call whole, then the end."""
    last = choice.held[-1][0]
    for chunk, _ in choice.held:
        rest = {k: v for k, v in _delta(chunk).items() if k not in ("content", "tool_calls")}
        if rest:
            yield _event(chunk, rest)
    if text := _remaining(choice, repair):
        yield _event(last, {"content": text})
    calls = repair.message.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else []):
        yield _event(last, {"tool_calls": [{"index": index, **call}]})
    yield _event(last, {}, "tool_calls" if repair.lifted else choice.finish, whole=True)


def _remaining(choice: _Choice, repair: Repair) -> str:
    """The text that the reader has not had yet."""
    if not repair.lifted:
        return choice.text[choice.passed :]
    passed = choice.text[: choice.passed].strip()
    text = str(repair.message.get("content") or "")
    return text[len(passed) :] if text.startswith(passed) else ""


def _event(
    chunk: Chunk, delta: Mapping[str, object], finish: str | None = None, *, whole: bool = False
) -> bytes:
    """A chunk like another, with one choice; `whole` with what ends it, as usage."""
    choices = chunk["choices"]
    old = choices[0] if isinstance(choices, list) else {}
    choice = {"index": old.get("index") or 0, "delta": delta, "finish_reason": finish}
    beside = {k: v for k, v in chunk.items() if whole or k not in ("usage", "timings")}
    return b"data: " + orjson.dumps({**beside, "choices": [choice]}) + b"\n\n"


def _delta(chunk: Chunk) -> dict[str, object]:
    choices = chunk["choices"]
    delta = choices[0].get("delta") if isinstance(choices, list) else None
    return delta if isinstance(delta, dict) else {}


def _add(calls: dict[int, dict[str, object]], part: Mapping[str, object]) -> None:
    """Adds a part of a call to the call at its index."""
    index = part.get("index")
    call = calls.setdefault(index if isinstance(index, int) else len(calls), {})
    inner = part.get("function")
    function = inner if isinstance(inner, dict) else {}
    for key, value in (("id", part.get("id")), ("type", part.get("type"))):
        if value and not call.get(key):
            call[key] = value
    if function.get("name") and not call.get("name"):
        call["name"] = function["name"]
    arguments = function.get("arguments")
    before = call.get("arguments")
    joined = isinstance(arguments, str) and isinstance(before, str)
    if arguments is not None:
        call["arguments"] = f"{before}{arguments}" if joined else arguments


def _assembled(call: Mapping[str, object]) -> dict[str, object]:
    function = {"name": call.get("name"), "arguments": call.get("arguments")}
    return {"id": call.get("id"), "type": call.get("type"), "function": function}
