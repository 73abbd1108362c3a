"""The runs that look after the index: reindex, fsck, and the migration to another model."""

from collections.abc import Mapping
from dataclasses import dataclass

from ai_stack.database import Database, locks, runs
from ai_stack.errors import InvalidRequest
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal
from ai_stack.models.runs import Run
from ai_stack.services.embedding_models import EmbeddingModels
from ai_stack.services.fsck import Fsck
from ai_stack.services.handlers import Handler, RunContext
from ai_stack.services.index import Index
from ai_stack.services.runs import Runs

MIGRATE = "migrate"


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What the runs do; of each kind one is done at a time, the others wait for it."""

    database: Database
    index: Index
    fsck: Fsck
    embeddings: EmbeddingModels

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {"reindex": self._reindex, "fsck": self._fsck, MIGRATE: self._migrate}

    async def start_pending(self, started: Runs, principal: Principal) -> Run | None:
        """Begin the migration to the configured model, where none was made and none goes on."""
        async with locks.only_one(self.database, "pending-migration"):
            name = await self.embeddings.pending()
            if name is None:
                return None
            async with self.database.transaction(principal.project_id) as tx:
                going_on = await runs.unended(tx, MIGRATE)
            return None if going_on else await started.start(principal, MIGRATE, {"model": name})

    async def _reindex(self, context: RunContext) -> Mapping[str, JSON]:
        fresh = context.input.get("fresh") is True
        async with locks.only_one(self.database, "reindex"):
            return await self.index.rebuild(context.progress, fresh=fresh)

    async def _fsck(self, context: RunContext) -> Mapping[str, JSON]:
        repair = context.input.get("repair") is True
        async with locks.only_one(self.database, "fsck"):
            report = await self.fsck.check(context.progress, repair=repair)
        return report.json()

    async def _migrate(self, context: RunContext) -> Mapping[str, JSON]:
        name, switch = context.input.get("model"), context.input.get("switch") is not False
        if not isinstance(name, str):
            raise InvalidRequest("A migration needs the name of a model.")
        async with locks.only_one(self.database, "migrate"):
            return await self.embeddings.migrate(name, context.progress, switch=switch)
