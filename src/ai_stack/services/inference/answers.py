"""Answers that are kept: exact, by project, model, its revision and the canonical request.

By default only what would come out the same again is kept. What may call a tool never is.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson

from ai_stack.caches import Cache
from ai_stack.models.inference import CachePolicy, Call, Usage

PREFIX = "answer:"
LARGEST = 1 << 20
ALWAYS_SAME = ("embedding", "rerank")


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer from the cache; `age_s` counts from when it was made."""

    body: bytes
    engine: str | None
    usage: Usage | None
    age_s: float


@dataclass(frozen=True, slots=True)
class Answers:
    """The cache of answers; a cache that is down keeps none and has none."""

    cache: Cache
    ttl_s: int

    def key(
        self, call: Call, project_id: UUID, revision: str, policy: CachePolicy, *form: str
    ) -> str | None:
        """Where the answer to a call is kept, None for one that is not; `form` is how it looks."""
        if not (policy.reads or policy.stores) or not self._may_keep(call, policy):
            return None
        place, scope = _scope(project_id, call.operation, revision, *form)
        return place + sha256(scope + call.encoded).hexdigest()

    def _may_keep(self, call: Call, policy: CachePolicy) -> bool:
        if self.ttl_s == 0 or "tools" in call.body:
            return False
        return policy.asked or policy.only or is_deterministic(call)

    async def get(self, key: str, policy: CachePolicy) -> Kept | None:
        """The answer under a key, unless it is older than the client takes."""
        value = await self.cache.get(key)
        kept = None if value is None else _read(value)
        if kept is None or policy.longest_s is None or kept.age_s <= policy.longest_s:
            return kept
        return None

    async def keep(
        self, key: str, body: bytes, engine: str | None, usage: Usage | None, policy: CachePolicy
    ) -> None:
        """Keep an answer that came whole; one that is large is not kept."""
        if not policy.stores or len(body) > LARGEST:
            return
        used = None if usage is None else [usage.prompt, usage.completion, usage.cached]
        head = orjson.dumps({"at": time.time(), "engine": engine, "usage": used})
        ttl_s = self.ttl_s if policy.longest_s is None else min(self.ttl_s, policy.longest_s)
        await self.cache.set(key, head + b"\n" + body, max(ttl_s, 1))


@lru_cache(256)
def _scope(project_id: UUID, *named: str) -> tuple[str, bytes]:
    """Where the answers of a project are, by its id, and what all of one kind share."""
    scope = project_id.bytes + "\0".join(named).encode() + b"\0"
    return f"{PREFIX}{project_id.hex}:", scope


def is_deterministic(call: Call) -> bool:
    """Whether the same call is answered the same again: no dice are thrown, or always the same."""
    if call.operation in ALWAYS_SAME:
        return True
    return call.body.get("temperature") == 0 or "seed" in call.body


def _read(value: bytes) -> Kept | None:
    head, _, body = value.partition(b"\n")
    try:
        told: dict[str, Any] = orjson.loads(head)
        usage = None if told["usage"] is None else Usage(*told["usage"])
        return Kept(body, told["engine"], usage, max(0.0, time.time() - told["at"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
