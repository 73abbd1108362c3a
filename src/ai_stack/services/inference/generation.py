"""Answers in the stack's own form, drawn from documents where that is asked.

It knows no dialect of a client: a request comes as messages, an answer leaves as text.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from ai_stack.errors import AIStackError, EngineFailed, InvalidRequest
from ai_stack.models.generation import (
    Citation,
    Delta,
    Generated,
    GenerateRequest,
    Grounds,
    Message,
)
from ai_stack.models.inference import PLAIN, Options, Usage
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchAnswer
from ai_stack.services.inference import Inference, events
from ai_stack.services.inference.dialects import chunk_of, first_choice, texts_of
from ai_stack.services.inference.passages import cited, grounded, numbered, question_of, shortened
from ai_stack.services.inference.reading import STREAM, Answer
from ai_stack.services.inference.room import Room, attended
from ai_stack.services.search import Search

CHARACTERS_A_TOKEN = 2
GROUNDS = 3  # the part of a context that is kept from earlier turns for passages
MOST_MODELS = 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes to the model, and what is known of it."""

    messages: Sequence[Message]
    model: str
    passages: Sequence[Citation] | None = None
    found: int = 0
    degraded: str | None = None
    left_out: int = 0
    counted: Literal["exact", "estimated"] | None = None


@dataclass(slots=True)
class Generating:
    """An answer that has begun: read once, by iteration or as a whole, and then closed.

    Reading raises AIStackError when the engine breaks off. `ended` sees the answer when it has
    come whole, and gives it back with what is to be told of it.
    """

    answer: Answer
    prompt: Prompt
    ended: Callable[[Generated], Awaitable[Generated]] | None = None
    generated: Generated | None = None
    _usage: Usage = field(default_factory=Usage)
    _reason: str = "stop"
    _said: dict[str, list[str]] = field(default_factory=lambda: {"text": [], "reasoning": []})

    async def __aiter__(self) -> AsyncIterator[Delta]:
        async for chunk in self._chunks():
            self._usage = events.usage_of(chunk) or self._usage
            choice = first_choice(chunk)
            if choice is None:
                continue
            self._reason = choice.get("finish_reason") or self._reason
            for kind, text in texts_of(choice.get("delta") or {}):
                delta = Delta("reasoning" if kind == "reasoning" else "text", text)
                self._said[delta.kind].append(text)
                yield delta
        made = self._made()
        self.generated = made if self.ended is None else await self.ended(made)

    async def whole(self) -> Generated:
        """The answer in one piece, also after it was read by iteration."""
        if self.generated is None:
            async for _ in self:
                pass
        assert self.generated is not None
        return self.generated

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        if self.answer.media_type == STREAM:
            async for chunk in events.chunks(aiter(self.answer)):
                yield chunk
            return
        found = chunk_of(orjson.loads(await self.answer.whole()))
        if first_choice(found) is None:
            raise EngineFailed("The engine's answer has no message.")
        yield found

    def _made(self) -> Generated:
        prompt, text = self.prompt, "".join(self._said["text"])
        grounds = None
        if prompt.passages is not None:
            named = cited(text, prompt.passages)
            grounds = Grounds(prompt.found, len(prompt.passages), named, prompt.degraded)
        return Generated(
            text,
            prompt.model,
            self._usage,
            self.answer.cached,
            self._reason,
            "".join(self._said["reasoning"]),
            grounds,
            prompt.counted,
        )

    async def aclose(self) -> None:
        await self.answer.aclose()


@dataclass(frozen=True, slots=True)
class Generation:
    """Has models answer; retrieves for them, and fits what was found to their context."""

    inference: Inference
    search: Search

    async def open(
        self,
        request: GenerateRequest,
        principal: Principal,
        options: Options = PLAIN,
        *,
        streamed: bool = False,
    ) -> Generating:
        """Have a prompt answered; returns when the answer begins.

        Raises what Inference.open and Search.search do, and ContextTooLong for a prompt that is
        too long without any passage.
        """
        async with attended(options, self.inference.timeout_s):
            room = await Room.of(self.inference, request.fields)
            prompt = await _fitted(request, await self._found(request, principal), room)
        return await self._begun(request, prompt, principal, options, streamed=streamed)

    async def generate(
        self, request: GenerateRequest, principal: Principal, options: Options = PLAIN
    ) -> Generated:
        """The answer to a prompt in one piece; raises as `open` does, and when it breaks off."""
        return await _read(await self.open(request, principal, options))

    async def parallel(
        self,
        models: Sequence[str],
        request: GenerateRequest,
        principal: Principal,
        options: Options = PLAIN,
    ) -> list[Generated | AIStackError]:
        """What each of several models answers, asked at once, or how it failed; in their order."""
        if not 1 <= len(models) <= MOST_MODELS:
            reason = f"a list of 1 to {MOST_MODELS} models"
            raise InvalidRequest(f"models must be {reason}.", fields={"models": reason})
        async with attended(options, self.inference.timeout_s):
            found = await self._found(request, principal)
        asked = (self._one(model, request, found, principal, options) for model in models)
        tasks = [asyncio.create_task(one) for one in asked]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(
        self,
        model: str,
        request: GenerateRequest,
        found: SearchAnswer | None,
        principal: Principal,
        options: Options,
    ) -> Generated | AIStackError:
        named = replace(request, fields={**request.fields, "model": model})
        try:
            async with attended(options, self.inference.timeout_s):
                room = await Room.of(self.inference, named.fields)
                prompt = await _fitted(named, found, room)
            begun = await self._begun(named, prompt, principal, options)
            return await _read(begun)
        except AIStackError as error:
            return error

    async def _begun(
        self,
        request: GenerateRequest,
        prompt: Prompt,
        principal: Principal,
        options: Options,
        *,
        streamed: bool = False,
    ) -> Generating:
        body = {**request.fields, "model": prompt.model, "messages": list(prompt.messages)}
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = await self.inference.open("chat", body, principal, options)
        return Generating(answer, prompt)

    async def _found(self, request: GenerateRequest, principal: Principal) -> SearchAnswer | None:
        wanted = request.documents
        if wanted is None:
            return None
        if wanted.query is None:
            question = await self.search.question(question_of(request.messages))
            wanted = replace(wanted, query=question)
        return await self.search.search(wanted, principal)


async def _read(begun: Generating) -> Generated:
    try:
        return await begun.whole()
    finally:
        await begun.aclose()


async def _fitted(request: GenerateRequest, found: SearchAnswer | None, room: Room) -> Prompt:
    """The prompt: as many turns as fit, the newest of them, then as many passages, the best."""
    head, now = _parted(request.messages)

    def with_turns(count: int) -> list[Message]:
        kept = request.turns[len(request.turns) - count :] if count else ()
        return [*head, *(m for turn in kept for m in turn), *now]

    if found is None and not request.turns:
        return Prompt(request.messages, room.model.id)
    spared = 0 if found is None else room.context // GROUNDS
    kept = await room.most(len(request.turns), with_turns, spared)
    left_out = len(request.turns) - kept
    prompt = Prompt(with_turns(kept), room.model.id, left_out=left_out, counted=room.counted)
    return prompt if found is None else await _with_passages(prompt, found, room)


async def _with_passages(prompt: Prompt, found: SearchAnswer, room: Room) -> Prompt:
    passages = numbered(found)
    bare = await room.tokens(grounded(prompt.messages, ()))
    await room.check(bare)
    fitting = shortened(passages, max(0, room.free - bare) * CHARACTERS_A_TOKEN)
    shown = fitting[: await _most_passages(prompt, fitting, room)]
    return replace(
        prompt,
        messages=grounded(prompt.messages, shown),
        passages=shown,
        found=len(passages),
        degraded=found.degraded,
        counted=room.counted,
    )


async def _most_passages(prompt: Prompt, passages: Sequence[Citation], room: Room) -> int:
    if not passages or not passages[0].text:
        return 0
    return await room.most(len(passages), lambda n: grounded(prompt.messages, passages[:n]))


def _parted(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """What the system says at the head, and the rest."""
    first = next(
        (n for n, m in enumerate(messages) if m.get("role") not in ("system", "developer")),
        len(messages),
    )
    return messages[:first], messages[first:]
