"""llama.cpp's answers in OpenAI's form, where its own is another.

Of several choices it tells the usage of each where that one ends, and gives a role only to the
first that begins. A completion's usage stands beside its last piece, its logprobs are a chat's.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from ai_stack.engines import Reply
from ai_stack.engines.assembly import Json, events, read_chunk
from ai_stack.engines.wire import strange
from ai_stack.errors import InvalidRequest
from ai_stack.models.inference import Body, Operation

MOST = 1 << 16  # 2048 prompts with 16 answers each, and more
COUNTS = ("prompt_tokens", "completion_tokens")
UNOFFERED = "The engine of this model does not offer"


def check_offered(body: Body) -> None:
    """InvalidRequest for what llama.cpp would take and then not do."""
    if body.get("echo"):
        raise InvalidRequest(f"{UNOFFERED} echo.", fields={"echo": "must be left out"})
    best, wanted = body.get("best_of"), body.get("n", 1)
    if best is not None and best != wanted:
        raise InvalidRequest(f"{UNOFFERED} best_of beside n.", fields={"best_of": "must be n"})


def differs(operation: Operation, body: Body) -> bool:
    """Whether the stream that answers this needs to be brought into form."""
    return operation == "completion" or body.get("n", 1) != 1


@dataclass(slots=True)
class Formed:
    """A stream in OpenAI's form; `answers` are the choices that each prompt has."""

    reply: Reply
    answers: int = 1
    _usage: list[Json] = field(default_factory=list)
    _last: Json = field(default_factory=dict)
    _begun: int = 0
    _offsets: dict[int, int] = field(default_factory=dict)

    @property
    def media_type(self) -> str:
        return self.reply.media_type

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in events(self.reply):
            if event == b"[DONE]":
                yield self._end()
            elif (chunk := read_chunk(event)) and self._kept(chunk):
                yield b"".join(map(_event, [*self._begin(chunk), chunk]))

    async def aclose(self) -> None:
        await self.reply.aclose()

    def _kept(self, chunk: Json) -> bool:
        """Bring a chunk into form; whether anything is left of it."""
        usage = chunk.pop("usage", None)
        if isinstance(usage, dict):
            self._usage.append(usage)
            self._last = {n: v for n, v in chunk.items() if n != "choices"}
        for choice in chunk.get("choices", ()):
            self._form(choice)
        return bool(chunk.get("choices"))

    def _begin(self, chunk: Json) -> Iterator[Json]:
        """A chat's choices begin in their order with their roles: OpenAI's client needs it."""
        deltas = [choice for choice in chunk["choices"] if "delta" in choice]
        while self._begun <= max((choice["index"] for choice in deltas), default=-1):
            opened = {"index": self._begun, "delta": {"role": "assistant"}, "finish_reason": None}
            yield {**chunk, "choices": [opened]}
            self._begun += 1

    def _form(self, choice: Any) -> None:
        index = choice.get("index") if isinstance(choice, dict) else None
        if not isinstance(index, int) or not 0 <= index < MOST:
            raise strange()
        if isinstance(choice.get("delta"), dict):
            choice["delta"].pop("role", None)
        if "text" in choice:
            offset = self._offsets.get(index, 0)
            self._offsets[index] = offset + len(choice["text"] or "")
            choice["logprobs"] = completion_logprobs(choice.get("logprobs"), offset)

    def _end(self) -> bytes:
        """The usage of all choices in a chunk of its own, and the end."""
        if not self._usage:
            return b"data: [DONE]\n\n"
        told = {**self._last, "choices": [], "usage": self._summed()}
        return _event(told) + b"data: [DONE]\n\n"

    def _summed(self) -> Json:
        """A prompt counts once, whatever the number of its answers."""
        prompt, completion = (sum(map(int, _counts(self._usage, name))) for name in COUNTS)
        details = [u.get("prompt_tokens_details") or {} for u in self._usage]
        prompt, cached = prompt // self.answers, sum(_counts(details, "cached_tokens"))
        return {
            "completion_tokens": completion,
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached // self.answers},
        }


def formed(answer: Json) -> Json:
    """A whole answer in OpenAI's form; llama.cpp counts the tokens of one choice only."""
    choices = answer.get("choices") or []
    content = [(choice.get("logprobs") or {}).get("content") or () for choice in choices]
    usage = answer.get("usage")
    if isinstance(usage, dict):
        told = max(sum(map(len, content)), *_counts([usage], "completion_tokens"))
        prompt = sum(_counts([usage], "prompt_tokens"))
        usage.update(completion_tokens=told, total_tokens=prompt + told)
    for choice in choices:
        if "text" in choice:
            choice["logprobs"] = completion_logprobs(choice.get("logprobs"))
    return answer


def _event(chunk: Json) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _counts(told: list[Json], name: str) -> Iterator[int]:
    for one in told:
        count = one.get(name)
        yield count if isinstance(count, int) else 0


def completion_logprobs(told: Any, offset: int = 0) -> Json | None:
    """A chat's logprobs as a completion has them; `offset` is where in the text they begin."""
    content = told.get("content") if isinstance(told, dict) else None
    if not isinstance(content, list):
        return None
    tokens = [str(one.get("token", "")) for one in content]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [one.get("logprob") for one in content],
        "top_logprobs": [_likeliest(one.get("top_logprobs")) for one in content],
        "text_offset": offsets,
    }


def _likeliest(told: Any) -> dict[str, float]:
    """The first of those that look alike is the likeliest."""
    found: dict[str, float] = {}
    for one in told or ():
        found.setdefault(one["token"], one["logprob"])
    return found
