"""The door to vector indexes: a backend is the scheme of a URL.

    qdrant-edge:///run/vectors.sock   Qdrant's engine in a child process
    qdrant://host:6333                a Qdrant server
    pgvector:                         the PostgreSQL that holds the documents
    memory:                           exact search in this process, for unit tests

An index is derived: everything in it comes from PostgreSQL and can be made again.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ai_stack.models.documents import Metadata
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.filters import Filter
from ai_stack.models.search import Hit


@dataclass(frozen=True, slots=True)
class Point:
    """One chunk's vector (L2-normalised, float32) with what filters need to know of it."""

    chunk_id: UUID
    document_id: UUID
    project_id: UUID
    vector: Sequence[float]
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """The `limit` nearest chunks of one project; `exact` scans instead of walking a graph."""

    project_id: UUID
    vector: Sequence[float]
    limit: int
    filter: Filter | None = None
    exact: bool = False


class Vectors(Protocol):
    """Six methods; all raise VectorsUnavailable when the engine does not answer in time."""

    async def upsert(self, model: EmbeddingModel, points: Sequence[Point]) -> None:
        """Make points findable, replacing those of the same chunk id; durable on return."""

    async def delete(
        self,
        model: EmbeddingModel,
        project_id: UUID,
        document_ids: Collection[UUID],
        keep: Collection[UUID] = (),
    ) -> None:
        """Remove all points of these documents but the chunk ids in `keep`."""

    async def search(self, model: EmbeddingModel, query: VectorQuery) -> Sequence[Hit]:
        """The nearest points, best first, score = cosine similarity."""

    def scan(self, model: EmbeddingModel) -> AsyncIterator[Sequence[tuple[UUID, UUID, UUID]]]:
        """Every point as (chunk, document, project) ids, in batches: fsck's view of the index."""

    async def drop(self, model: EmbeddingModel) -> None:
        """Forget a model's whole index; absent is fine."""

    async def ping(self) -> None:
        """Return when the engine serves."""
