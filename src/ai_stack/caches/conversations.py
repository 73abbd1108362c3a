"""The door to conversations that are kept for a time: in Redis, or in this process.

One list holds a conversation: what it began with, then its turns. A turn is added in one step,
and only to a conversation that is there, so that of two at once neither is lost.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from ai_stack.caches.pipeline import Address, Answer, Down, Part, Pipeline
from ai_stack.errors import Unavailable

PREFIX = "aidb:conversation:"


@dataclass(frozen=True, slots=True)
class Kept:
    """A conversation: what it began with, and its turns, the oldest first."""

    head: bytes
    turns: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Outline:
    """A conversation without its turns but the last."""

    id: str
    head: bytes
    last: bytes | None
    turns: int


class Conversations(Protocol):
    """Conversations by scope and id; ids sort by the time they were made.

    Every method raises Unavailable when the server is down.
    """

    async def create(self, scope: str, id: str, head: bytes, ttl_s: int) -> None: ...

    async def read(self, scope: str, id: str) -> Kept | None: ...

    async def append(self, scope: str, id: str, turn: bytes, ttl_s: int) -> bool:
        """Add a turn and begin its time anew; whether the conversation is there."""

    async def page(self, scope: str, limit: int, before: str | None) -> list[Outline]:
        """Conversations, the newest first, from before an id on."""

    async def delete(self, scope: str, id: str) -> bool:
        """Forget a conversation; whether it was there."""

    async def aclose(self) -> None: ...


def open_conversations(url: str) -> Conversations:
    """Those at the URL of a cache; connects when they are first used."""
    if urlsplit(url).scheme == "memory":
        return MemoryConversations()
    return RedisConversations(Pipeline(Address.read(url)))


@dataclass
class MemoryConversations:
    """In this process, for unit tests and for `memory:`."""

    _kept: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)
    _until: dict[tuple[str, str], float] = field(default_factory=dict)

    async def create(self, scope: str, id: str, head: bytes, ttl_s: int) -> None:
        self._kept[scope, id] = [head]
        self._renew(scope, id, ttl_s)

    async def read(self, scope: str, id: str) -> Kept | None:
        self._expire()
        found = self._kept.get((scope, id))
        return None if found is None else Kept(found[0], found[1:])

    async def append(self, scope: str, id: str, turn: bytes, ttl_s: int) -> bool:
        self._expire()
        found = self._kept.get((scope, id))
        if found is not None:
            found.append(turn)
            self._renew(scope, id, ttl_s)
        return found is not None

    async def page(self, scope: str, limit: int, before: str | None) -> list[Outline]:
        self._expire()
        ids = sorted((i for s, i in self._kept if s == scope), reverse=True)
        chosen = [i for i in ids if before is None or i < before][:limit]
        return [_outline(i, self._kept[scope, i]) for i in chosen]

    async def delete(self, scope: str, id: str) -> bool:
        self._expire()
        return self._kept.pop((scope, id), None) is not None

    async def aclose(self) -> None:
        self._kept.clear()

    def _renew(self, scope: str, id: str, ttl_s: int) -> None:
        self._until[scope, id] = time.monotonic() + ttl_s

    def _expire(self) -> None:
        now = time.monotonic()
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
            self._kept.pop(key, None)


class RedisConversations:
    """In a Redis or Valkey server. The ids of a scope stand in a sorted set of its own.

    It uses no scripts and no transactions: the server may refuse the former, and on the shared
    connection the latter would hold other callers' commands.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def create(self, scope: str, id: str, head: bytes, ttl_s: int) -> None:
        with _told():
            await asyncio.gather(
                self._call("RPUSH", _key(scope, id), head),
                self._call("ZADD", _index(scope), 0, id),
                *self._renewals(scope, id, ttl_s),
            )

    async def read(self, scope: str, id: str) -> Kept | None:
        with _told():
            found = cast(list[bytes], await self._call("LRANGE", _key(scope, id), 0, -1))
        return Kept(found[0], found[1:]) if found else None

    async def append(self, scope: str, id: str, turn: bytes, ttl_s: int) -> bool:
        with _told():
            count, *_ = await asyncio.gather(
                self._call("RPUSHX", _key(scope, id), turn), *self._renewals(scope, id, ttl_s)
            )
        return bool(count)

    async def page(self, scope: str, limit: int, before: str | None) -> list[Outline]:
        """Ids whose conversations have expired are swept on the way."""
        found: list[Outline] = []
        with _told():
            while (wanted := limit - len(found)) > 0:
                ids = await self._ids(scope, wanted, before)
                outlines = await asyncio.gather(*(self._outline(scope, id) for id in ids))
                found += [outline for outline in outlines if outline is not None]
                if len(ids) < wanted:
                    break
                before = ids[-1]
        return found

    async def delete(self, scope: str, id: str) -> bool:
        with _told():
            count, _ = await asyncio.gather(
                self._call("DEL", _key(scope, id)), self._call("ZREM", _index(scope), id)
            )
        return bool(count)

    async def aclose(self) -> None:
        await self._pipeline.aclose()

    def _renewals(self, scope: str, id: str, ttl_s: int) -> list[Coroutine[Any, Any, Answer]]:
        """To be sent after what makes the keys."""
        keys = (_key(scope, id), _index(scope))
        return [self._call("EXPIRE", key, ttl_s) for key in keys]

    async def _ids(self, scope: str, limit: int, before: str | None) -> list[str]:
        start = "+" if before is None else f"({before}"
        command = ("ZREVRANGEBYLEX", _index(scope), start, "-", "LIMIT", 0, limit)
        return [id.decode() for id in cast(list[bytes], await self._call(*command))]

    async def _outline(self, scope: str, id: str) -> Outline | None:
        key = _key(scope, id)
        head, last, count = await asyncio.gather(
            self._call("LINDEX", key, 0), self._call("LINDEX", key, -1), self._call("LLEN", key)
        )
        if not isinstance(head, bytes):
            await self._call("ZREM", _index(scope), id)
            return None
        turns = cast(int, count) - 1
        return Outline(id, head, cast(bytes, last) if turns > 0 else None, turns)

    async def _call(self, *command: Part) -> Answer:
        return await self._pipeline.call(*command)


def _key(scope: str, id: str) -> str:
    return f"{PREFIX}{scope}:{id}"


def _index(scope: str) -> str:
    return f"aidb:conversations:{scope}"


def _outline(id: str, kept: Sequence[bytes]) -> Outline:
    return Outline(id, kept[0], kept[-1] if len(kept) > 1 else None, len(kept) - 1)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Down as error:
        raise Unavailable("Redis does not answer, and sessions are kept there.") from error
