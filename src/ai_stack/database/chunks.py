"""Chunks and embeddings: what a document's content becomes, replaced as one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson

from ai_stack.database import Transaction, sealing
from ai_stack.database.documents import SIZE

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class State:
    """What the index needs to know of a document; `content` is None where it is cut already."""

    document_id: UUID
    version: int
    content_version: int
    content: str | None
    metadata: dict[str, object]
    vector: Vectors | None


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to store; offsets count code points of the document's content."""

    id: UUID
    document_id: UUID
    content_version: int
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


async def sizes(tx: Transaction, ids: Collection[UUID]) -> dict[UUID, int]:
    """The bytes of each of these documents' contents, without reading them."""
    rows = await tx.rows(
        f"SELECT d.id, {SIZE} FROM documents d WHERE id = ANY (%(ids)s)",
        {"ids": list(ids)},
    )
    return {row[0]: row[1] for row in rows}


async def states(tx: Transaction, ids: Collection[UUID]) -> list[State]:
    """The present state of those documents that still exist."""
    rows = await tx.rows(
        "SELECT d.id, d.version, d.content_version, CASE WHEN c.document_id IS NULL"
        " THEN d.content END, d.metadata, CASE WHEN c.document_id IS NULL"
        " THEN halfvec_send(d.vector) END, CASE WHEN c.document_id IS NULL THEN d.sealed END"
        " FROM documents d LEFT JOIN LATERAL"
        " (SELECT document_id FROM chunks WHERE document_id = d.id"
        " AND content_version = d.content_version LIMIT 1) c ON true WHERE d.id = ANY (%(ids)s)",
        {"ids": list(ids)},
    )
    keys = await sealing.opener(tx, (r[6] for r in rows))
    return [
        State(r[0], r[1], r[2], _content(keys, r[0], r[6], r[3]), r[4], _vector(r[5])) for r in rows
    ]


def _content(keys: sealing.Opener, id: UUID, sealed: bytes | None, plain: str | None) -> str | None:
    return plain if sealed is None else keys.text(sealing.document(id), sealed, "")


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
    return current


async def _insert(tx: Transaction, chunks: Sequence[NewChunk]) -> None:
    await tx.execute(
        "INSERT INTO chunks (id, document_id, content_version, ordinal, start_at, end_at, heading,"
        ' text, sealed, words) SELECT id, document_id, content_version, ordinal, start, "end",'
        " CASE WHEN sealed IS NULL THEN heading ELSE '' END,"
        " CASE WHEN sealed IS NULL THEN text ELSE '' END, sealed,"
        " passage_words(heading, text, sealed IS NOT NULL)"
        " FROM (SELECT n.*, (%(sealed)s::bytea[])[i] AS sealed FROM"
        " ROWS FROM (json_to_recordset(%(rows)s::json) AS (id uuid, document_id uuid,"
        ' content_version bigint, ordinal int, start int, "end" int, heading text, text text))'
        ' WITH ORDINALITY AS n(id, document_id, content_version, ordinal, start, "end",'
        " heading, text, i)) n",
        {"rows": orjson.dumps(chunks).decode(), "sealed": await _sealed(tx, chunks)},
    )


async def _sealed(tx: Transaction, chunks: Sequence[NewChunk]) -> list[bytes]:
    """The passages in their envelopes; none in a project that is not sealed."""
    key = await sealing.sealer(tx)
    if key is None:
        return []
    return [sealing.seal_passage(key, c.id, c.heading, c.text) for c in chunks]


async def embed(
    tx: Transaction, model_id: int, chunks: Sequence[tuple[UUID, UUID]], vectors: Vectors
) -> None:
    """Store one vector a chunk, given as (chunk, document) ids, for a model."""
    width = vectors.shape[1]
    await tx.execute(
        "INSERT INTO embeddings (model_id, chunk_id, document_id, vector)"
        " SELECT %(model)s, c, d, (%(vectors)s)[(i - 1) * %(width)s + 1 : i * %(width)s]::halfvec"
        " FROM unnest(%(chunks)s::uuid[], %(documents)s::uuid[]) WITH ORDINALITY AS n(c, d, i)"
        " WHERE EXISTS (SELECT FROM chunks WHERE id = c) ON CONFLICT DO NOTHING",
        {
            "model": model_id,
            "chunks": [c for c, _ in chunks],
            "documents": [d for _, d in chunks],
            "vectors": vectors,
            "width": width,
        },
    )


async def embedded(tx: Transaction, model_id: int, ids: Collection[UUID]) -> list[Embedded]:
    """The stored vectors of these documents."""
    rows = await tx.rows(
        "SELECT e.chunk_id, e.document_id, halfvec_send(e.vector), d.metadata FROM embeddings e"
        " JOIN documents d ON d.id = e.document_id"
        f" WHERE e.model_id = {int(model_id)} AND e.chunk_id IN"
        " (SELECT id FROM chunks WHERE document_id = ANY (%(ids)s))",
        {"ids": list(ids)},
    )
    return [Embedded(r[0], r[1], halfvec(r[2]), r[3]) for r in rows]


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
        "SELECT c.id, c.document_id, c.heading, c.text, c.sealed FROM chunks c"
        " WHERE c.document_id = ANY (%(ids)s) AND NOT EXISTS (SELECT FROM embeddings e"
        f" WHERE e.chunk_id = c.id AND e.model_id = {int(model_id)})",
        {"ids": list(ids)},
    )
    keys = await sealing.opener(tx, (r[4] for r in rows))
    return [(r[0], r[1], *keys.passage(r[0], r[4], r[2], r[3])) for r in rows]


def _vector(sent: bytes | None) -> Vectors | None:
    return None if sent is None else halfvec(sent)


def halfvec(sent: bytes) -> Vectors:
    """A vector as halfvec_send gives it: a header of 4 bytes, then big-endian half floats."""
    return np.frombuffer(sent, ">f2", offset=4).astype(np.float32)
