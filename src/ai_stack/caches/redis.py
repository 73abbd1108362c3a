"""The cache in a Redis or Valkey server: `redis://`, `rediss://` or `unix://`."""

import uuid
from collections.abc import Awaitable
from typing import TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ai_stack.errors import Unavailable

T = TypeVar("T")
TIMEOUT_S = 0.25
CONNECTIONS = 32
GENERATION_TTL_S = 7 * 86400
PREFIX = "aidb:"


class RedisCache:
    """A server that is down costs one short timeout a call and is never an error."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @classmethod
    def open(cls, url: str) -> "RedisCache":
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(Redis.from_pool(pool))

    async def get(self, key: str) -> bytes | None:
        return cast("bytes | None", await self._quietly(self._redis.get(PREFIX + key)))

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        await self._quietly(self._redis.set(PREFIX + key, value, ex=ttl_s))

    async def generation(self, scope: str) -> str | None:
        name = f"{PREFIX}generation:{scope}"
        found = await self._quietly(self._redis.get(name))
        if found is not None:
            return cast(bytes, found).decode()
        # The server may have evicted it: a new name never meets what an old one left behind.
        made = uuid.uuid4().hex
        stored = await self._quietly(self._redis.set(name, made, ex=GENERATION_TTL_S, nx=True))
        return made if stored else None

    async def renew(self, scope: str) -> None:
        name = f"{PREFIX}generation:{scope}"
        await self._quietly(self._redis.set(name, uuid.uuid4().hex, ex=GENERATION_TTL_S))

    async def ping(self) -> None:
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise Unavailable("Redis does not answer.") from error

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def _quietly(self, call: Awaitable[T]) -> T | None:
        try:
            return await call
        except (RedisError, OSError):
            return None
