"""Sees to it that no search is answered from before a change, however deaf the cache is.

A cache that does not take a renewal would go on with what it kept; so it is asked until it does.
"""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from ai_stack.caches import Cache

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Renewals:
    """The renewals of a cache, and those that it owes."""

    cache: Cache
    retry_s: float = RETRY_S
    _owed: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def renew(self, project_id: UUID) -> None:
        """Have what was found in a project until now not be used again; later, if not at once."""
        scope = str(project_id)
        if await self._is_renewed(scope) or scope in self._owed:
            return
        self._owed[scope] = task = asyncio.create_task(self._insist(scope))
        task.add_done_callback(lambda _: self._owed.pop(scope, None))

    async def _insist(self, scope: str) -> None:
        while True:
            await asyncio.sleep(self.retry_s)
            if await self._is_renewed(scope):
                return

    async def _is_renewed(self, scope: str) -> bool:
        before = await self.cache.generation(scope)
        await self.cache.renew(scope)
        after = await self.cache.generation(scope)
        return before is not None and after not in (None, before)
