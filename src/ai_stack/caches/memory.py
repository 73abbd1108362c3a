"""A cache in this process, for unit tests and for `memory:`."""

import time
import uuid

from ai_stack.caches import Mark, unmarked


class MemoryCache:
    """Keeps everything until it expires."""

    def __init__(self, mark: Mark = unmarked) -> None:
        self._mark = mark
        self._values: dict[str, tuple[bytes, float]] = {}
        self._generations: dict[str, str] = {}

    async def get(self, key: str) -> bytes | None:
        value, expires = self._values.get(key, (None, 0.0))
        return value if expires > time.monotonic() else None

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self._values[key] = (value, time.monotonic() + ttl_s)

    async def generation(self, scope: str) -> str | None:
        if scope not in self._generations:
            self._generations.setdefault(scope, await self._new())
        return self._generations[scope]

    async def renew(self, scope: str) -> None:
        self._generations[scope] = await self._new()

    async def _new(self) -> str:
        return f"{uuid.uuid4().hex}.{await self._mark()}"

    async def ping(self) -> None:
        return

    async def aclose(self) -> None:
        self._values.clear()
