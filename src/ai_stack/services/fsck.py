"""Finds and repairs every divergence between documents, chunks, embeddings and index."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from ai_stack.database import Database, consistency
from ai_stack.database import documents as rows
from ai_stack.database.consistency import DocumentFaults
from ai_stack.database.embedding_models import StoredModel
from ai_stack.models.documents import JSON
from ai_stack.services.embedding import Models
from ai_stack.services.indexing import LEASE_S, Indexing
from ai_stack.services.points import Points

PAGE = 200
EXAMPLES = 10
KINDS = {
    "unchunked": "documents without chunks",
    "stale": "documents whose chunks are of an earlier content",
    "unembedded": "documents with chunks that lack a vector",
    "crossed": "vectors that are filed under another document than their chunk's",
    "missing": "points that the index lacks",
    "orphan": "points in the index that belong to nothing",
    "misplaced": "points in the index under a wrong document or project",
}

Progress: TypeAlias = Callable[[int, int, str], Awaitable[None]]


@dataclass(slots=True)
class Report:
    """How many divergences of each kind there are, with the ids of some documents."""

    checked: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    repaired: bool = False

    def note(self, kind: str, document_ids: Iterable[UUID]) -> None:
        ids = [str(id) for id in document_ids]
        self.found[kind] += len(ids)
        kept = self.examples[kind] if ids else []
        kept += [id for id in dict.fromkeys(ids) if id not in kept][: EXAMPLES - len(kept)]

    def json(self) -> Mapping[str, JSON]:
        return {
            "consistent": not self.found.total(),
            "repaired": self.repaired,
            "checked": dict(self.checked),
            "found": {kind: self.found[kind] for kind in KINDS},
            "examples": {kind: ids for kind, ids in self.examples.items() if ids},
        }


@dataclass(frozen=True, slots=True)
class Fsck:
    """Looks at all projects, and at every model that is kept in step."""

    database: Database
    models: Models
    indexing: Indexing
    points: Points

    async def check(self, progress: Progress, *, repair: bool = False) -> Report:
        """What diverges; with `repair` it is put right too, from what PostgreSQL has.

        What waits for a change to be followed is in order. A model that is being built is
        left to its migration.
        """
        report = Report(repaired=repair)
        models = [m for m in await self.models.stored() if m.state != "building"]
        projects = await consistency.projects(self.database)
        total = await self.documents()
        for project_id in projects:
            async for ids in self.pages(project_id):
                report.checked["documents"] += len(ids)
                await self._check_documents(project_id, models, ids, report)
                await progress(report.checked["documents"], total, "documents")
        for model in models:
            await progress(total, total, f"index of {model.model.name}")
            for project_id in projects:
                await self._check_vectors(project_id, model, report)
            await self.check_points(model, report)
        if repair and report.found.total():
            for project_id in projects:
                await self.indexing.renewals.renew(project_id)
        return report

    async def pages(self, project_id: UUID) -> AsyncIterator[Sequence[UUID]]:
        """The ids of a project's documents, some at a time."""
        after = consistency.START
        while True:
            async with self.database.transaction(project_id) as tx:
                ids = await consistency.documents_after(tx, after, PAGE)
            if not ids:
                return
            yield ids
            after = ids[-1]

    async def check_points(self, model: StoredModel, report: Report) -> None:
        """Compare a model's index with its embeddings, and repair it when the report says so."""
        async for faults in self.points.faults(model):
            for kind in ("missing", "orphan", "misplaced"):
                report.note(kind, (f.document_id for f in faults if f.kind == kind))
            if report.repaired:
                await self.points.repair(model, faults)

    async def documents(self) -> int:
        """How many documents all projects have."""
        total = 0
        for project_id in await consistency.projects(self.database):
            async with self.database.transaction(project_id) as tx:
                total += (await consistency.counts(tx))[0]
        return total

    async def _check_documents(
        self, project_id: UUID, models: Sequence[StoredModel], ids: Sequence[UUID], report: Report
    ) -> None:
        async with self.database.transaction(project_id) as tx:
            faults = await consistency.document_faults(tx, ids, [m.id for m in models])
        report.note("unchunked", (f.document_id for f in faults if f.unchunked))
        report.note("stale", (f.document_id for f in faults if f.stale and not f.unchunked))
        report.note("unembedded", (f.document_id for f in faults if f.unembedded))
        if faults and report.repaired:
            await self._follow_again(project_id, faults)

    async def _follow_again(self, project_id: UUID, faults: Sequence[DocumentFaults]) -> None:
        async with self.database.transaction(project_id) as tx:
            cut = [f.document_id for f in faults if f.unchunked or f.stale]
            await consistency.cut_anew(tx, cut)
            leases = await rows.mark_dirty(tx, [f.document_id for f in faults], LEASE_S)
        await self.indexing.apply(leases)

    async def _check_vectors(self, project_id: UUID, model: StoredModel, report: Report) -> None:
        after = consistency.START
        while True:
            async with self.database.transaction(project_id) as tx:
                page = await consistency.vectors_after(tx, model.id, after, PAGE * 10)
                crossed = [v for v in page if v.chunk_document_id != v.document_id]
                if crossed and report.repaired:
                    await consistency.delete_vectors(tx, model.id, [v.chunk_id for v in crossed])
            if not page:
                return
            after = page[-1].chunk_id
            report.checked["vectors"] += len(page)
            report.note("crossed", (v.document_id for v in crossed))
            if crossed and report.repaired:
                owners = {v.chunk_document_id for v in crossed if v.chunk_document_id is not None}
                await self._embed_again(project_id, model, sorted(owners))

    async def _embed_again(self, project_id: UUID, model: StoredModel, ids: Sequence[UUID]) -> None:
        await self.indexing.embed_missing(project_id, model, ids)
        await self.indexing.publish(project_id, model, ids)
