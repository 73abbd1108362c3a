"""Answers to nearly equal questions: a cache that may be wrong, and is off unless asked for.

Two requests meet only where all but the last user message is the same: project, model and its
revision, system prompt, history, tools and every setting. Their last messages must have vectors
nearer than `least`, and the same numbers in them: "in 2023" is never answered by "in 2024".
"""

import base64
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

import numpy as np
import orjson

from ai_stack.caches import Cache
from ai_stack.errors import Unavailable
from ai_stack.models.inference import Call
from ai_stack.services.embedding import Array

PREFIX = "similar:"
LONGEST, SHORTEST = 600, 8  # characters of a message: longer ones say more than a vector holds
MOST = 64
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

Embed = Callable[[str], Awaitable[Array]]


@dataclass(frozen=True, slots=True)
class Question:
    """The last message of a request as a vector, and the requests it may share answers with."""

    scope: str
    numbers: tuple[str, ...]
    vector: Array


@dataclass(frozen=True, slots=True)
class SimilarAnswers:
    """Where answers to questions like one are kept; `least` is the cosine that counts as equal."""

    cache: Cache
    embed: Embed
    least: float
    ttl_s: int

    async def question(
        self, call: Call, project_id: UUID, revision: str, form: str = ""
    ) -> Question | None:
        """What a request asks; None for one that has no short last message, or no embedder.

        `form` is how its answer looks.
        """
        messages = call.body.get("messages")
        last = messages[-1] if isinstance(messages, list) else {}
        text = last.get("content")
        if last.get("role") != "user" or not isinstance(text, str):
            return None
        if not SHORTEST <= len(text) <= LONGEST:
            return None
        try:
            vector = await self.embed(text)
        except Unavailable:
            return None
        rest = {**call.body, "messages": messages[:-1]}  # type: ignore[index]
        plain = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)
        scope = "\0".join((revision, form)).encode()
        digest = sha256(project_id.bytes + scope + b"\0" + plain).hexdigest()
        place = f"{PREFIX}{project_id.hex}:{digest}"
        return Question(place, tuple(NUMBER.findall(text)), vector)

    async def find(self, question: Question) -> str | None:
        """The key of the answer to the nearest question, if any is near enough."""
        best, found = self.least, None
        for numbers, vector, key in await self._known(question.scope):
            likeness = float(question.vector @ vector)
            if numbers == question.numbers and likeness >= best:
                best, found = likeness, key
        return found

    async def add(self, question: Question, key: str) -> None:
        """Keep where the answer to a question is; the oldest of MOST make room."""
        known = await self._known(question.scope)
        kept = [*known[-MOST + 1 :], (question.numbers, question.vector, key)]
        value = orjson.dumps([(numbers, _text(vector), key) for numbers, vector, key in kept])
        await self.cache.set(question.scope, value, self.ttl_s)

    async def _known(self, scope: str) -> list[tuple[tuple[str, ...], Array, str]]:
        value = await self.cache.get(scope)
        rows = [] if value is None else orjson.loads(value)
        return [(tuple(numbers), _vector(text), key) for numbers, text, key in rows]


def _text(vector: Array) -> str:
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


def _vector(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
