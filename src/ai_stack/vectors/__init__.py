"""The door to vector indexes: a backend is the scheme of a URL.

    qdrant-edge:///run/vectors.sock   Qdrant's engine in a child process
    qdrant://host:6333                a Qdrant server; qdrants:// over TLS
    pgvector:                         the PostgreSQL that holds the documents
    memory:                           exact search in this process, for unit tests

An index is derived: everything in it comes from PostgreSQL and can be made again.
"""

import importlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast, runtime_checkable
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ai_stack.errors import InvalidRequest, SettingsError
from ai_stack.models.documents import Metadata
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.filters import Filter
from ai_stack.models.search import Hit

if TYPE_CHECKING:
    from ai_stack.database import Database

BACKENDS = {
    "qdrant-edge": "edge",
    "qdrant": "qdrant",
    "qdrants": "qdrant",
    "pgvector": "pgvector",
    "memory": "memory",
}
Rows: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Point:
    """One chunk's vector (L2-normalised, float32) with what filters need to know of it."""

    chunk_id: UUID
    document_id: UUID
    project_id: UUID
    vector: Sequence[float] | npt.NDArray[np.float32]
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """The `limit` nearest chunks of one project; `exact` scans instead of walking a graph."""

    project_id: UUID
    vector: Sequence[float] | npt.NDArray[np.float32]
    limit: int
    filter: Filter | None = None
    exact: bool = False


class Countable(Protocol):
    """What tells how much it holds."""

    async def count(self, model: EmbeddingModel) -> int:
        """The points of a model, of every project; raises as the methods of Vectors do."""


class Vectors(Countable, Protocol):
    """All methods raise VectorsUnavailable when the engine does not answer in time."""

    async def upsert(self, model: EmbeddingModel, points: Sequence[Point]) -> None:
        """Make points findable, replacing those of the same chunk id; durable on return."""

    async def delete(
        self,
        model: EmbeddingModel,
        project_id: UUID,
        document_ids: Collection[UUID] | None,
        keep: Collection[UUID] = (),
    ) -> None:
        """Remove all points of these documents but the chunk ids in `keep`.

        None stands for all documents that the project has or had: where the files are ours,
        nothing of them is left in these either.
        """

    async def search(self, model: EmbeddingModel, query: VectorQuery) -> Sequence[Hit]:
        """The nearest points, best first, score = cosine similarity."""

    def scan(self, model: EmbeddingModel) -> AsyncIterator[Sequence[tuple[UUID, UUID, UUID]]]:
        """Every point as (chunk, document, project) ids, in batches: fsck's view of the index."""

    async def drop(self, model: EmbeddingModel) -> None:
        """Forget a model's whole index; absent is fine."""

    async def ping(self) -> None:
        """Return when the engine serves."""


@runtime_checkable
class Housed(Protocol):
    """An index that lies in a PostgreSQL, and in all that follow it."""

    def over(self, database: "Database") -> Vectors:
        """The same index, searched there."""


def over(vectors: Vectors, database: "Database") -> Vectors:
    """An index as another PostgreSQL has it, where it lies in one."""
    return vectors.over(database) if isinstance(vectors, Housed) else vectors


def open_vectors(
    url: str, *, api_key: str | None = None, database: "Database | None" = None
) -> AbstractAsyncContextManager[Vectors]:
    """The index behind a URL, closed when the context is left; it connects when first used.

    `api_key` is for a Qdrant server, `database` for pgvector. Raises SettingsError for a URL
    that names no backend.
    """
    scheme = urlsplit(url).scheme
    if scheme not in BACKENDS:
        raise SettingsError(f"AI_STACK_VECTORS_URL must begin with one of {', '.join(BACKENDS)}.")
    backend = importlib.import_module(f"{__name__}.{BACKENDS[scheme]}")
    opened = backend.open_backend(url, api_key=api_key, database=database)
    return cast("AbstractAsyncContextManager[Vectors]", opened)


def unit_rows(vectors: Sequence[Sequence[float] | Rows], model: EmbeddingModel) -> Rows:
    """The vectors as L2-normalised float32 rows, shape (len(vectors), model.dimensions).

    Raises InvalidRequest for another length, for what is not finite, and for zero vectors.
    """
    try:
        with np.errstate(over="ignore"):
            rows = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidRequest("A vector is a list of numbers, all of one length.") from None
    if not len(vectors):
        return np.empty((0, model.dimensions), np.float32)
    if rows.shape != (len(vectors), model.dimensions):
        raise InvalidRequest(f"A vector of {model.name} has {model.dimensions} numbers.")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        raise InvalidRequest("A vector must be finite and not zero.")
    return np.asarray(rows / lengths, dtype=np.float32)
