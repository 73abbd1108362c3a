"""Exact search in this process: the reference that the other backends are compared with."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.filters import matches
from ai_stack.models.search import Hit
from ai_stack.vectors import Point, Rows, VectorQuery, unit_rows

BATCH = 1000


@dataclass(slots=True)
class MemoryVectors:
    """Points in a dictionary for each model."""

    models: dict[str, dict[UUID, tuple[Point, Rows]]] = field(default_factory=dict)

    async def upsert(self, model: EmbeddingModel, points: Sequence[Point]) -> None:
        rows = unit_rows([p.vector for p in points], model)
        stored = self.models.setdefault(model.key, {})
        stored.update({p.chunk_id: (p, row) for p, row in zip(points, rows, strict=True)})

    async def delete(
        self,
        model: EmbeddingModel,
        project_id: UUID,
        document_ids: Collection[UUID] | None,
        keep: Collection[UUID] = (),
    ) -> None:
        stored = self.models.get(model.key, {})
        for chunk_id, (point, _) in list(stored.items()):
            named = document_ids is None or point.document_id in document_ids
            mine = point.project_id == project_id and named
            if mine and chunk_id not in keep:
                del stored[chunk_id]

    async def search(self, model: EmbeddingModel, query: VectorQuery) -> Sequence[Hit]:
        vector = unit_rows([query.vector], model)[0]
        found = [
            (point, row)
            for point, row in self.models.get(model.key, {}).values()
            if point.project_id == query.project_id
            and (query.filter is None or matches(query.filter, point.metadata))
        ]
        if not found:
            return []
        scores = np.stack([row for _, row in found]) @ vector
        best = np.argsort(-scores, kind="stable")[: query.limit]
        return [Hit(found[i][0].chunk_id, found[i][0].document_id, float(scores[i])) for i in best]

    async def scan(self, model: EmbeddingModel) -> AsyncIterator[Sequence[tuple[UUID, UUID, UUID]]]:
        points = [p for p, _ in self.models.get(model.key, {}).values()]
        for start in range(0, len(points), BATCH):
            batch = points[start : start + BATCH]
            yield [(p.chunk_id, p.document_id, p.project_id) for p in batch]

    async def count(self, model: EmbeddingModel) -> int:
        return len(self.models.get(model.key, {}))

    async def drop(self, model: EmbeddingModel) -> None:
        self.models.pop(model.key, None)

    async def ping(self) -> None:
        return None


@asynccontextmanager
async def open_backend(url: str, **_: object) -> AsyncIterator[MemoryVectors]:
    yield MemoryVectors()
