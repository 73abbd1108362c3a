"""The door to the cache: `redis://`, `rediss://`, `unix://` or `memory:`.

A cache may forget anything at any time, and nothing but speed depends on it.
"""

from typing import Protocol


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
