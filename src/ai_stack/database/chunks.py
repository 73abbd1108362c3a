"""Chunks and embeddings: what a document's content becomes, replaced as one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson

from ai_stack.database import Transaction

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class State:
    """What the index needs to know of a document; `content` is None where it is indexed."""

    document_id: UUID
    version: int
    content: str | None
    metadata: dict[str, object]
    vector: Vectors | None
    key: str | None


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to store; offsets count code points of the document's content."""

    id: UUID
    document_id: UUID
    ordinal: int
    start: int
    end: int
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """A stored chunk's vector, with what a filter may ask of its document."""

    chunk_id: UUID
    document_id: UUID
    vector: Vectors
    metadata: dict[str, object]


async def states(tx: Transaction, ids: Collection[UUID]) -> list[State]:
    """The present state of those documents that still exist."""
    rows = await tx.rows(
        "SELECT d.id, d.version, CASE WHEN indexed_content IS DISTINCT FROM"
        " sha256(convert_to(d.content, 'UTF8')) THEN d.content END, d.metadata,"
        " d.vector::text, k.key FROM documents d LEFT JOIN document_keys k ON k.document_id = d.id"
        " WHERE d.id = ANY (%(ids)s)",
        {"ids": list(ids)},
    )
    return [
        State(r[0], r[1], r[2], r[3], None if r[4] is None else _array(r[4]), r[5]) for r in rows
    ]


async def replace(
    tx: Transaction, states: Sequence[State], chunks: Sequence[NewChunk]
) -> set[UUID]:
    """Put new chunks in the old ones' place, for those documents that have not changed since.

    Returns the documents that were written; those whose version moved on are left to whoever
    follows the later change.
    """
    rows = await tx.rows(
        "SELECT d.id FROM documents d JOIN unnest(%(ids)s::uuid[], %(versions)s::bigint[])"
        " AS n(id, version) ON n.id = d.id AND n.version = d.version ORDER BY d.id FOR UPDATE OF d",
        {"ids": [s.document_id for s in states], "versions": [s.version for s in states]},
    )
    current = {row[0] for row in rows}
    await tx.execute("DELETE FROM chunks WHERE document_id = ANY (%(ids)s)", {"ids": list(current)})
    await _insert(tx, [c for c in chunks if c.document_id in current])
    await tx.execute(
        "UPDATE documents SET indexed_content = sha256(convert_to(content, 'UTF8'))"
        " WHERE id = ANY (%(ids)s)",
        {"ids": list(current)},
    )
    return current


async def _insert(tx: Transaction, chunks: Sequence[NewChunk]) -> None:
    await tx.execute(
        "INSERT INTO chunks (id, document_id, ordinal, start_at, end_at, heading, text)"
        " SELECT * FROM unnest(%(ids)s::uuid[], %(documents)s::uuid[], %(ordinals)s::int[],"
        " %(starts)s::int[], %(ends)s::int[], %(headings)s::text[], %(texts)s::text[])",
        {
            "ids": [c.id for c in chunks],
            "documents": [c.document_id for c in chunks],
            "ordinals": [c.ordinal for c in chunks],
            "starts": [c.start for c in chunks],
            "ends": [c.end for c in chunks],
            "headings": [c.heading for c in chunks],
            "texts": [c.text for c in chunks],
        },
    )


async def embed(
    tx: Transaction, model_id: int, chunks: Sequence[tuple[UUID, UUID]], vectors: Vectors
) -> None:
    """Store one vector a chunk, given as (chunk, document) ids, for a model."""
    await tx.execute(
        "INSERT INTO embeddings (model_id, chunk_id, document_id, vector)"
        " SELECT %(model)s, c, d, v::halfvec FROM unnest(%(chunks)s::uuid[], %(documents)s::uuid[],"
        " %(vectors)s::text[]) AS n(c, d, v) JOIN chunks ON chunks.id = n.c"
        " ON CONFLICT DO NOTHING",
        {
            "model": model_id,
            "chunks": [c for c, _ in chunks],
            "documents": [d for _, d in chunks],
            "vectors": [_text(v) for v in vectors],
        },
    )


async def embedded(tx: Transaction, model_id: int, ids: Collection[UUID]) -> list[Embedded]:
    """The stored vectors of these documents."""
    rows = await tx.rows(
        "SELECT e.chunk_id, e.document_id, e.vector::text, d.metadata FROM embeddings e"
        " JOIN documents d ON d.id = e.document_id"
        f" WHERE e.model_id = {int(model_id)} AND e.chunk_id IN"
        " (SELECT id FROM chunks WHERE document_id = ANY (%(ids)s))",
        {"ids": list(ids)},
    )
    return [Embedded(r[0], r[1], _array(r[2]), r[3]) for r in rows]


async def embedded_versions(
    tx: Transaction, model_id: int, ids: Collection[UUID]
) -> set[tuple[UUID, int]]:
    """(chunk, its document's version) of the stored vectors of these documents."""
    rows = await tx.rows(
        "SELECT c.id, d.version FROM chunks c JOIN documents d ON d.id = c.document_id"
        f" JOIN embeddings e ON e.chunk_id = c.id AND e.model_id = {int(model_id)}"
        " WHERE c.document_id = ANY (%(ids)s)",
        {"ids": list(ids)},
    )
    return {(row[0], row[1]) for row in rows}


async def without_embedding(
    tx: Transaction, model_id: int, ids: Collection[UUID]
) -> list[tuple[UUID, UUID, str, str]]:
    """(chunk, document, heading, text) of these documents' chunks without a vector of a model."""
    rows = await tx.rows(
        "SELECT c.id, c.document_id, c.heading, c.text FROM chunks c"
        " WHERE c.document_id = ANY (%(ids)s) AND NOT EXISTS (SELECT FROM embeddings e"
        f" WHERE e.chunk_id = c.id AND e.model_id = {int(model_id)})",
        {"ids": list(ids)},
    )
    return [(r[0], r[1], r[2], r[3]) for r in rows]


def _text(vector: Vectors) -> str:
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _array(text: str) -> Vectors:
    return np.asarray(orjson.loads(text), dtype=np.float32)
