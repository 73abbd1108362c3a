"""The room that a model's context has for a prompt, by the engine's own count of tokens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from ai_stack.errors import (
    ContextTooLong,
    DeadlineExceeded,
    EngineFailed,
    Unavailable,
    Unsupported,
)
from ai_stack.models.generation import Message
from ai_stack.models.inference import Options, ServedModel
from ai_stack.services.inference import Inference

ASSUMED = 4096  # of an engine that does not tell its context
LONGEST_RESERVE, SHARE = 1024, 4
BYTES_A_TOKEN, TOKENS_A_MESSAGE, TOKENS_AN_IMAGE = 2, 8, 1500
TEMPLATE = ("chat_template_kwargs", "reasoning_effort")  # what its text depends on besides

Build = Callable[[int], Sequence[Message]]


@dataclass(slots=True)
class Room:
    """A model's context, less what is reserved for the answer.

    An engine that cannot count is estimated, on the safe side, and `counted` tells so.
    """

    inference: Inference
    model: ServedModel
    asked: int | None
    template: Mapping[str, object]
    counted: Literal["exact", "estimated"] = "exact"

    @classmethod
    async def of(cls, inference: Inference, fields: Mapping[str, object]) -> "Room":
        """The room for a chat request; raises ModelNotFound and EngineUnavailable."""
        name = fields.get("model")
        pool = await inference.fleet.pool(name if isinstance(name, str) else None, "chat")
        template = {n: fields[n] for n in TEMPLATE if n in fields}
        return cls(inference, pool.model, _limit(fields), template)

    @property
    def context(self) -> int:
        return self.model.context_length or ASSUMED

    @property
    def free(self) -> int:
        """The tokens that a prompt may have, so that an answer of a fair length fits too."""
        reserve = min(LONGEST_RESERVE, self.context // SHARE) if self.asked is None else self.asked
        return self.context - reserve

    async def tokens(self, messages: Sequence[Message]) -> int:
        """The tokens of messages by the model's template, or an estimate."""
        if self.counted == "exact" and self._can_count(messages):
            try:
                chat = {**self.template, "messages": list(messages)}
                _, found = await self.inference.tokens(self.model.id, chat)
            except (Unsupported, Unavailable, EngineFailed):
                self.counted = "estimated"
            else:
                await self._refresh()
                return len(found)
        self.counted = "estimated"
        return estimate(messages)

    def _can_count(self, messages: Sequence[Message]) -> bool:
        return self.model.context_length is not None and not any(map(_images, messages))

    async def _refresh(self) -> None:
        """A model that was loaded to count may have less context than it could have."""
        if not self.model.loaded:
            await self.inference.fleet.look()
            self.model = (await self.inference.fleet.pool(self.model.id, "chat")).model

    async def check(self, tokens: int) -> None:
        """Raise ContextTooLong for a prompt of so many tokens that can have no answer."""
        asked = 1 if self.asked is None else self.asked
        over = tokens + asked - self.context
        if over > 0:
            raise ContextTooLong(
                f"The prompt has {tokens} tokens, the answer may have {asked} and "
                f"{self.context} fit: they are {over} tokens too long."
            )

    async def most(self, count: int, build: Build, spared: int = 0) -> int:
        """How many of `count` things fit, by the messages that `build` makes; 0 is not tried.

        `spared` tokens are left free besides.
        """
        fits, above = 0, count + 1
        while fits + 1 < above:
            tried = count if above > count else (fits + above) // 2
            if await self.tokens(build(tried)) <= self.free - spared:
                fits = tried
            else:
                above = tried
        return fits


@asynccontextmanager
async def attended(options: Options, timeout_s: float) -> AsyncIterator[None]:
    """Work that ends with its time, by DeadlineExceeded, or when its client leaves."""
    task, departure = asyncio.current_task(), options.departure
    if departure is not None and task is not None:
        departure.add(task.cancel)
    try:
        async with asyncio.timeout(min(options.timeout_s or timeout_s, timeout_s)):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded from error
    finally:
        if departure is not None and task is not None:
            departure.remove(task.cancel)


def estimate(messages: Sequence[Message]) -> int:
    """More tokens than messages have by any usual tokenizer."""
    size_bytes = sum(len(text.encode()) for m in messages for text in _texts(m))
    others = TOKENS_A_MESSAGE * len(messages) + TOKENS_AN_IMAGE * sum(map(_images, messages))
    return -(-size_bytes // BYTES_A_TOKEN) + others


def _limit(fields: Mapping[str, object]) -> int | None:
    found = fields.get("max_completion_tokens") or fields.get("max_tokens")
    return found if isinstance(found, int) and found > 0 else None


def _texts(message: Message) -> list[str]:
    content: Any = message.get("content")
    if isinstance(content, str):
        return [content]
    return [p["text"] for p in content or () if isinstance(p.get("text"), str)]


def _images(message: Message) -> int:
    """The parts of a message that are no text."""
    content: Any = message.get("content")
    if content is None or isinstance(content, str):
        return 0
    return sum("text" not in part for part in content)
