"""The door to the cache: `redis://`, `rediss://`, `unix://` or `memory:`.

A cache may forget anything at any time, and nothing but speed depends on it.
"""

import importlib
from typing import Protocol
from urllib.parse import urlsplit

from ai_stack.errors import SettingsError


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


def open_cache(url: str) -> Cache:
    """The cache at a URL; it connects when it is first used."""
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        memory: Cache = importlib.import_module(f"{__name__}.memory").MemoryCache()
        return memory
    if scheme not in ("redis", "rediss", "unix"):
        raise SettingsError("AI_STACK_REDIS_URL must begin with redis, rediss, unix or memory.")
    redis: Cache = importlib.import_module(f"{__name__}.redis").RedisCache.open(url)
    return redis
