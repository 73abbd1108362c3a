"""A renewal that the cache did not take is made as soon as it takes one."""

import asyncio
from uuid import UUID

from ai_stack.caches.memory import MemoryCache
from ai_stack.services.renewals import Renewals

PROJECT = UUID(int=7)


class Deaf(MemoryCache):
    """Takes no renewal while it is deaf, as a Redis that stands still for a moment."""

    deaf = True

    async def renew(self, scope: str) -> None:
        if not self.deaf:
            await super().renew(scope)


async def test_a_cache_that_listens_is_asked_once() -> None:
    cache = MemoryCache()
    before = await cache.generation(str(PROJECT))
    renewals = Renewals(cache)
    await renewals.renew(PROJECT)
    assert await cache.generation(str(PROJECT)) != before
    assert not renewals._owed


async def test_one_that_answers_again_only_after_the_renewal_is_asked_again() -> None:
    class Gone(Deaf):
        looks = 0

        async def generation(self, scope: str) -> str | None:
            self.looks += 1
            return None if self.looks == 2 else await super().generation(scope)

    cache = Gone()
    before = await cache.generation(str(PROJECT))
    renewals = Renewals(cache, retry_s=0.01)
    await renewals.renew(PROJECT)
    assert renewals._owed
    cache.deaf = False
    await asyncio.gather(*renewals._owed.values())
    assert await cache.generation(str(PROJECT)) != before


async def test_a_deaf_cache_is_asked_until_it_listens() -> None:
    cache = Deaf()
    before = await cache.generation(str(PROJECT))
    renewals = Renewals(cache, retry_s=0.01)
    for _ in range(3):
        await renewals.renew(PROJECT)
    assert len(renewals._owed) == 1
    await asyncio.sleep(0.05)
    assert await cache.generation(str(PROJECT)) == before
    cache.deaf = False
    async with asyncio.timeout(2):
        while renewals._owed:
            await asyncio.sleep(0.005)
    assert await cache.generation(str(PROJECT)) != before
