"""The cache in a Redis or Valkey server: by any URL that is no memory."""

import uuid
from contextlib import suppress

from ai_stack.caches import Mark, unmarked
from ai_stack.caches.pipeline import Address, Answer, Down, Part, Pipeline
from ai_stack.errors import Unavailable

GENERATION_TTL_S = 7 * 86400
PREFIX = "aidb:"


class RedisCache:
    """A server that is down costs one short wait now and then, and is never an error."""

    def __init__(self, pipeline: Pipeline, mark: Mark = unmarked) -> None:
        self._pipeline, self._mark = pipeline, mark

    @classmethod
    def open(cls, url: str, mark: Mark = unmarked) -> "RedisCache":
        return cls(Pipeline(Address.read(url)), mark)

    async def get(self, key: str) -> bytes | None:
        try:
            found = await self._pipeline.call("GET", PREFIX + key)
        except Down:
            return None
        return found if isinstance(found, bytes) else None

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Return when it is on its way: what is asked after it sees it."""
        with suppress(Down):
            await self._pipeline.post("SET", PREFIX + key, value, "EX", ttl_s)

    async def generation(self, scope: str) -> str | None:
        name = f"{PREFIX}generation:{scope}"
        found = await self._quietly("GET", name)
        if isinstance(found, bytes):
            return found.decode()
        # The server may have evicted it: a new name never meets what an old one left behind.
        made = await self._new()
        stored = await self._quietly("SET", name, made, "EX", GENERATION_TTL_S, "NX")
        return made if stored else None

    async def renew(self, scope: str) -> None:
        name = f"{PREFIX}generation:{scope}"
        await self._quietly("SET", name, await self._new(), "EX", GENERATION_TTL_S)

    async def _new(self) -> str:
        return f"{uuid.uuid4().hex}.{await self._mark()}"

    async def ping(self) -> None:
        try:
            await self._pipeline.call("PING")
        except Down as error:
            raise Unavailable("Redis does not answer.") from error

    async def _quietly(self, *command: Part) -> Answer:
        try:
            return await self._pipeline.call(*command)
        except Down:
            return None

    async def aclose(self) -> None:
        await self._pipeline.aclose()
