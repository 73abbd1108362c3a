"""Removes every trace of a project that is being deleted: rows, vectors, what Redis keeps.

Each step does nothing where it was done before, so whatever dies on the way, the run goes on when
it is taken up again. Requests that were under way when the project was shut may leave something
behind after its end; so for a day what was deleted is looked for again, every hour.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from ai_stack.caches.traces import Traces
from ai_stack.database import Database, audit
from ai_stack.database import projects as rows
from ai_stack.database import runs as run_rows
from ai_stack.errors import AIStackError, Conflict, DeadlineExceeded, InvalidRequest
from ai_stack.models.documents import JSON
from ai_stack.models.principals import DEFAULT_PROJECT, Principal
from ai_stack.services.embedding import Models
from ai_stack.services.handlers import RunContext
from ai_stack.services.runs import Runs
from ai_stack.vectors import Vectors

KIND = "delete-project"
BATCH = 200
SETTLE_S, LOOK_S = 35.0, 0.2  # a lease on changes lasts 30 s
LINGER_S = 3.0  # the log of inferences is written every second
AGAIN = timedelta(days=1)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Erasure:
    """The handler of the runs that delete projects; `runs` ends those of the project."""

    database: Database
    runs: Runs
    models: Models
    vectors: Vectors
    traces: Traces

    async def __call__(self, context: RunContext) -> Mapping[str, JSON]:
        """Delete the project that the run names; Conflict for one that is not shut."""
        id = _id(context.input)
        state = await rows.state_of(self.database, id)
        if state not in ("deleting", None):
            raise Conflict("This project is open: it was not asked to be deleted.")
        await self._end_runs(id)
        counts = await self._erase(id, context)
        async with self.database.control() as tx:
            counts["keys"] = await rows.delete_keys(tx, id)
            await rows.delete(tx, id)
            if state is not None:
                name = context.principal.name
                await audit.record(tx, name, "project.gone", str(id), project_id=id, detail=counts)
        await asyncio.sleep(LINGER_S)
        await self._erase(id)
        return {"project": str(id), **counts}

    async def sweep(self) -> int:
        """Erase again what was deleted of late; how much there was."""
        async with self.database.transaction(DEFAULT_PROJECT) as tx:
            inputs = await run_rows.succeeded(tx, KIND, AGAIN)
        found = 0
        for id in map(_id, inputs):
            counts = await self._erase(id)
            found += sum(counts.values())
        return found

    async def _end_runs(self, id: UUID) -> None:
        """Cancel the project's runs, and give those under way some time to stop."""
        principal, until = Principal(id), _now() + SETTLE_S
        for run_id, _ in await self._open_runs(id):
            try:
                await self.runs.cancel(principal, run_id)
            except AIStackError as error:
                log.debug("run %s is not cancelled: %s", run_id, error.message)
        while await self._under_way(id) and _now() < until:  # noqa: ASYNC110 (workers stop them)
            await asyncio.sleep(LOOK_S)

    async def _under_way(self, id: UUID) -> bool:
        return any(under_way for _, under_way in await self._open_runs(id))

    async def _open_runs(self, id: UUID) -> list[tuple[UUID, bool]]:
        async with self.database.transaction(id) as tx:
            return await rows.open_runs(tx)

    async def _erase(self, id: UUID, context: RunContext | None = None) -> dict[str, int]:
        """What each place had of the project, which is gone from it now."""
        counts: dict[str, int] = {}
        async with self.database.transaction(id) as tx:
            places = await rows.traces(tx)
        changes = [place for place in places if place.endswith(".dirty")]
        for place in [place for place in places if place not in changes]:
            await self._empty(id, place, counts, context)
        if context is not None:
            await self._settle(id)
        for place in changes:
            await self._empty(id, place, counts, context)
        await self._erase_beside(id, counts)
        return {name: count for name, count in counts.items() if count}

    async def _empty(
        self, id: UUID, place: str, counts: dict[str, int], context: RunContext | None
    ) -> None:
        name, batch = place.rpartition(".")[2], BATCH
        counts.setdefault(name, 0)
        while True:
            try:
                async with self.database.transaction(id) as tx:
                    gone = await rows.erase(tx, place, batch)
            except DeadlineExceeded:
                if batch == 1:
                    raise
                batch = max(1, batch // 8)
                continue
            if not gone:
                return
            counts[name] += gone
            if context is not None:
                done = sum(counts.values())
                await context.progress(done, done, name.replace("_", " "))

    async def _settle(self, id: UUID) -> None:
        """Return when nobody follows a change of the project any more, who would write to the
        index after it is emptied."""
        until = _now() + SETTLE_S
        while _now() < until:
            async with self.database.transaction(id) as tx:
                if not await rows.being_indexed(tx):
                    return
            await asyncio.sleep(LOOK_S)

    async def _erase_beside(self, id: UUID, counts: dict[str, int]) -> None:
        """The vectors of every model, and what Redis keeps."""
        for stored in await self.models.stored():
            await self.vectors.delete(stored.model, id, None)
        counts["cached"] = counts.get("cached", 0) + await self.traces.forget(id)


def _id(input: Mapping[str, JSON]) -> UUID:
    try:
        return UUID(str(input.get("project")))
    except ValueError:
        raise InvalidRequest("The deletion of a project needs its id.") from None


def _now() -> float:
    return asyncio.get_running_loop().time()
