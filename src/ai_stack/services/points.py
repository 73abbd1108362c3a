"""Compares a model's index with the embeddings that it comes from, in bounded memory.

Documents change meanwhile, so a difference is only a suspicion: it counts when a second look
at both sides finds it again, and no change of its document is under way.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ai_stack.database import Database, consistency
from ai_stack.database.embedding_models import StoredModel
from ai_stack.services.indexing import Indexing
from ai_stack.vectors import Vectors

PAGE = 2000
BUCKET = 250_000

PointFaultKind = Literal["missing", "orphan", "misplaced"]
Ids = npt.NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class PointFault:
    """A point that is missing, belongs to nothing, or stands under another document or project.

    The project and document are those of the embedding for `missing`, else of the point.
    """

    kind: PointFaultKind
    chunk_id: UUID
    document_id: UUID
    project_id: UUID


@dataclass(frozen=True, slots=True)
class Points:
    database: Database
    vectors: Vectors
    indexing: Indexing
    bucket: int = BUCKET

    async def faults(self, model: StoredModel) -> AsyncIterator[Sequence[PointFault]]:
        """The differences, some at a time: at most `bucket` ids are held at once."""
        count = sum([len(batch) async for batch in self.vectors.scan(model.model)])
        buckets = 1 + max(count, await self._embeddings()) // self.bucket
        for number in range(buckets):
            suspects = await self._suspects(model, number, buckets)
            if suspects:
                yield await self._confirmed(model, suspects)

    async def repair(self, model: StoredModel, faults: Sequence[PointFault]) -> None:
        """Write what the embeddings say in the place of these points."""
        true = await self._true_places(model, [f.chunk_id for f in faults if f.kind != "missing"])
        # What a point claims to be goes first: a point has one place, and gets its own after.
        for project_id, ids in _by_project((f.project_id, f.document_id) for f in faults).items():
            await self._publish(model, project_id, ids)
        for project_id, ids in _by_project(true.values()).items():
            await self._publish(model, project_id, ids)

    async def _publish(self, model: StoredModel, project_id: UUID, ids: Sequence[UUID]) -> None:
        async for piece in self.indexing.pieces(project_id, ids):
            await self.indexing.publish(project_id, model, piece)

    async def _embeddings(self) -> int:
        total = 0
        for project_id in await consistency.projects(self.database):
            async with self.database.transaction(project_id) as tx:
                total += (await consistency.counts(tx))[1]
        return total

    async def _suspects(self, model: StoredModel, number: int, buckets: int) -> list[PointFault]:
        """What differs within one bucket of chunk ids."""
        suspects: list[PointFault] = []
        kept: list[bytes] = []
        async for batch in self.vectors.scan(model.model):
            mine = [point for point in batch if point[0].int % buckets == number]
            kept += [chunk.bytes for chunk, _, _ in mine]
            suspects += await self._strays(model, mine)
        ids = np.sort(np.array(kept, dtype="S16"))
        for project_id in await consistency.projects(self.database):
            async for page in self._pages(model, project_id):
                wanted = [v for v in page if v.chunk_id.int % buckets == number]
                found = _contained(ids, [v.chunk_id for v in wanted])
                suspects += [
                    PointFault("missing", v.chunk_id, v.document_id, project_id)
                    for v, present in zip(wanted, found, strict=True)
                    if not present
                ]
        return suspects

    async def _strays(
        self, model: StoredModel, points: Sequence[tuple[UUID, UUID, UUID]]
    ) -> list[PointFault]:
        """The points that no embedding of their project and document stands for."""
        strays = []
        for project_id, group in groupby(sorted(points, key=lambda p: p[2]), lambda p: p[2]):
            claimed = {chunk: document for chunk, document, _ in group}
            async with self.database.transaction(project_id) as tx:
                places = await consistency.places(tx, model.id, claimed)
            strays += [
                PointFault(
                    "misplaced" if chunk in places else "orphan", chunk, document, project_id
                )
                for chunk, document in claimed.items()
                if places.get(chunk) != document
            ]
        return strays

    async def _pages(
        self, model: StoredModel, project_id: UUID
    ) -> AsyncIterator[Sequence[consistency.StoredVector]]:
        after = consistency.START
        while True:
            async with self.database.transaction(project_id) as tx:
                page = await consistency.vectors_after(tx, model.id, after, PAGE)
            if not page:
                return
            yield page
            after = page[-1].chunk_id

    async def _confirmed(
        self, model: StoredModel, suspects: Sequence[PointFault]
    ) -> list[PointFault]:
        wanted = {fault.chunk_id for fault in suspects}
        seen: dict[UUID, tuple[UUID, UUID]] = {}
        async for batch in self.vectors.scan(model.model):
            seen.update((p[0], (p[1], p[2])) for p in batch if p[0] in wanted)
        true = await self._true_places(model, wanted)
        documents = _by_project((f.project_id, f.document_id) for f in suspects)
        changing = set()
        for project_id, ids in documents.items():
            async with self.database.transaction(project_id) as tx:
                changing |= await consistency.changing(tx, ids)
        confirmed = (_judged(fault, seen, true) for fault in suspects)
        return [f for f in confirmed if f is not None and f.document_id not in changing]

    async def _true_places(
        self, model: StoredModel, chunk_ids: Collection[UUID]
    ) -> dict[UUID, tuple[UUID, UUID]]:
        """Chunk -> (project, document) as the embeddings have it, in whatever project."""
        if not chunk_ids:
            return {}
        true: dict[UUID, tuple[UUID, UUID]] = {}
        for project_id in await consistency.projects(self.database):
            async with self.database.transaction(project_id) as tx:
                places = await consistency.places(tx, model.id, chunk_ids)
            true |= {chunk: (project_id, document) for chunk, document in places.items()}
        return true


def _judged(
    fault: PointFault, seen: dict[UUID, tuple[UUID, UUID]], true: dict[UUID, tuple[UUID, UUID]]
) -> PointFault | None:
    """The fault as a second look shows it, None when it is gone."""
    found, place = seen.get(fault.chunk_id), true.get(fault.chunk_id)
    if fault.kind == "missing":
        return fault if found is None and place is not None else None
    if found is None or place == (found[1], found[0]):
        return None
    kind: PointFaultKind = "orphan" if place is None else "misplaced"
    return PointFault(kind, fault.chunk_id, found[0], found[1])


def _contained(ids: Ids, wanted: Sequence[UUID]) -> npt.NDArray[np.bool_]:
    """Which of the wanted are among the sorted ids."""
    asked = np.array([id.bytes for id in wanted], dtype="S16")
    at = np.minimum(np.searchsorted(ids, asked), max(len(ids) - 1, 0))
    return ids[at] == asked if len(ids) else np.zeros(len(asked), dtype=bool)


def _by_project(places: Iterable[tuple[UUID, UUID]]) -> dict[UUID, list[UUID]]:
    groups = defaultdict[UUID, set[UUID]](set)
    for project_id, document_id in places:
        groups[project_id].add(document_id)
    return {project_id: sorted(ids) for project_id, ids in groups.items()}
