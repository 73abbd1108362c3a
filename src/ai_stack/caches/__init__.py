"""The door to the cache: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `memory:`.

A cache may forget anything at any time, and nothing but speed depends on it.
"""

import importlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

from ai_stack.caches.pipeline import SERVERS
from ai_stack.errors import SettingsError

Mark: TypeAlias = Callable[[], Awaitable[str]]


class Cache(Protocol):
    """Bytes under keys. No method raises when the server is down: a miss is the answer."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, ttl_s: int) -> None: ...

    async def generation(self, scope: str) -> str | None:
        """The scope's present generation, made when absent; None when the server is down."""

    async def renew(self, scope: str) -> None:
        """Give the scope a new generation, so that what was cached under the old is never read."""

    async def ping(self) -> None:
        """Return when the server answers; raises Unavailable when it does not."""

    async def aclose(self) -> None: ...


async def unmarked() -> str:
    """The mark of generations that carry none."""
    return ""


def open_cache(url: str, mark: Mark = unmarked) -> Cache:
    """The cache at a URL; it connects when it is first used.

    What `mark` tells when a generation is made is carried by it, after a dot.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        memory: Cache = importlib.import_module(f"{__name__}.memory").MemoryCache(mark)
        return memory
    if scheme not in SERVERS:
        known = ", ".join(SERVERS)
        raise SettingsError(f"AI_STACK_REDIS_URL must begin with memory or one of {known}.")
    redis: Cache = importlib.import_module(f"{__name__}.redis").RedisCache.open(url, mark)
    return redis
