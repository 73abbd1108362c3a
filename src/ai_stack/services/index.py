"""The vector index as a whole, written anew from what PostgreSQL has."""

from collections.abc import Mapping
from dataclasses import dataclass

from ai_stack.database import Database, consistency
from ai_stack.models.documents import JSON
from ai_stack.services.embedding import Models
from ai_stack.services.fsck import Fsck, Progress, Report
from ai_stack.services.indexing import Indexing
from ai_stack.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Index:
    database: Database
    models: Models
    vectors: Vectors
    indexing: Indexing
    fsck: Fsck

    async def rebuild(self, progress: Progress, *, fresh: bool = False) -> Mapping[str, JSON]:
        """Write the index of every model from the stored vectors, without embedding anything.

        Every point is written over the one that is there, and what belongs to nothing is
        removed at last, so searches find everything meanwhile. With `fresh` the index is
        dropped first, for one that is damaged: searches find by meaning only what has been
        written by then.
        """
        projects = await consistency.projects(self.database)
        models = await self.models.stored()
        total, done, report = await self.fsck.documents() * len(models), 0, Report(repaired=True)
        for model in models:
            if fresh:
                await self.vectors.drop(model.model)
            for project_id in projects:
                async for page in self.fsck.pages(project_id):
                    async for ids in self.indexing.pieces(project_id, page):
                        await self.indexing.publish(project_id, model, ids)
                        done += len(ids)
                    await progress(done, max(total, done), f"index of {model.model.name}")
            await self.fsck.check_points(model, report)
        for project_id in projects:
            await self.indexing.renewals.renew(project_id)
        return {"documents": done, "models": len(models), "swept": report.found["orphan"]}
