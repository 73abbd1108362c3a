"""A cache in this process, for unit tests and for `memory:`."""

import time
import uuid


class MemoryCache:
    """Keeps everything until it expires."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, float]] = {}
        self._generations: dict[str, str] = {}

    async def get(self, key: str) -> bytes | None:
        value, expires = self._values.get(key, (None, 0.0))
        return value if expires > time.monotonic() else None

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self._values[key] = (value, time.monotonic() + ttl_s)

    async def generation(self, scope: str) -> str | None:
        return self._generations.setdefault(scope, uuid.uuid4().hex)

    async def renew(self, scope: str) -> None:
        self._generations[scope] = uuid.uuid4().hex

    async def ping(self) -> None:
        return

    async def aclose(self) -> None:
        self._values.clear()
