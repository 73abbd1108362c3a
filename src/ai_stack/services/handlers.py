"""What a run's handler is given: its run, and the ways to tell how it goes and to ask a person."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from ai_stack.database import Database
from ai_stack.database import runs as rows
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal
from ai_stack.models.runs import EventKind, Run

PROGRESS_S = 0.5


class Paused(Exception):
    """Raised by a handler that asks a person: the run waits, and is taken up with the answer."""

    def __init__(self, ask: Mapping[str, JSON]) -> None:
        self.ask = ask
        super().__init__(str(ask.get("message", "")))


@dataclass
class RunContext:
    """What a handler is given: its run, and the ways to tell how it goes.

    A cancelled run cancels the handler's task. `tries` counts how often it was begun before.
    """

    principal: Principal
    run: Run
    database: Database
    tries: int = 0
    _told_at: float = float("-inf")
    _began_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def took_s(self) -> float:
        """How long it has been done, since it was taken up."""
        return asyncio.get_running_loop().time() - self._began_at

    @property
    def input(self) -> Mapping[str, JSON]:
        return self.run.input

    async def event(self, kind: EventKind, data: Mapping[str, JSON]) -> None:
        """Add an event to the run, which its followers see at once."""
        async with self.database.transaction(self.principal.project_id) as tx:
            await rows.lock(tx, self.run.id)
            await rows.append(tx, self.run.id, kind, data)

    async def progress(
        self, done: int, total: int, message: str, *, at_once: bool = False, **more: JSON
    ) -> None:
        """Tell how far the run is; told too often, most of it is left out, unless `at_once`.

        The pause grows with the run's age, so that a long one has some hundreds of events.
        """
        now = asyncio.get_running_loop().time()
        pause = max(PROGRESS_S, (now - self._began_at) / 100)
        if now - self._told_at < pause and not at_once:
            return
        self._told_at = now
        await self.event("progress", {"done": done, "total": total, "message": message, **more})


Handler = Callable[[RunContext], Awaitable[Mapping[str, JSON]]]
