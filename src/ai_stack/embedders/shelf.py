"""Models by name, each loaded once however many ask for it; it does not know what they do."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ai_stack.errors import AIStackError

T = TypeVar("T")

log = logging.getLogger("ai_stack.embedder")


@dataclass
class Shelf(Generic[T]):
    """`load` runs on a thread; its error is told to all who wait, and for `retry_s` after."""

    load: Callable[[str], T]
    retry_s: float = 0.0
    loaded: dict[str, T] = field(default_factory=dict)
    _loading: dict[str, asyncio.Task[T]] = field(default_factory=dict)
    _failed: dict[str, float] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        return any(not task.done() for task in self._loading.values())

    async def opened(self, name: str) -> T:
        """The model, loaded first when it is not; loading goes on when the caller leaves."""
        if (model := self.loaded.get(name)) is not None:
            return model
        if (task := self._loading.get(name)) is None or self._may_retry(name, task):
            task = self._loading[name] = asyncio.create_task(self._load(name))
        return await asyncio.shield(task)

    def _may_retry(self, name: str, task: asyncio.Task[T]) -> bool:
        now = asyncio.get_running_loop().time()
        return task.done() and now - self._failed.get(name, -self.retry_s) >= self.retry_s

    async def _load(self, name: str) -> T:
        try:
            self.loaded[name] = model = await asyncio.to_thread(self.load, name)
        except AIStackError as error:
            log.error("%s cannot be loaded: %s", name, error.message)
            raise
        finally:
            self._failed[name] = asyncio.get_running_loop().time()
        return model
