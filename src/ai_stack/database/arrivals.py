"""Documents that bring their vectors: rows, keys, chunk and embedding of each, written as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson

from ai_stack.database import Record, Transaction, sealing
from ai_stack.database.arrays import Ids, Texts
from ai_stack.database.documents import insert_keys, seal
from ai_stack.models.documents import Document, NewDocument

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A new document under its id, and the id of the one chunk that it is."""

    id: UUID
    chunk_id: UUID
    new: NewDocument


async def insert(tx: Transaction, arrivals: Sequence[Arrival], given: Vectors) -> list[Document]:
    """Store the documents with the vectors that were given, one row each.

    Returns them as they are stored. Raises AlreadyExists when one of the callers' keys is taken.
    """
    key = await sealing.sealer(tx)
    rows = await tx.rows(
        "INSERT INTO documents (id, content, metadata, vector, created_at, updated_at, sealed)"
        " SELECT id, content, metadata::jsonb,"
        " (%(vectors)s)[(i - 1) * %(width)s + 1 : i * %(width)s]::halfvec,"
        " coalesce(created, now()), coalesce(updated, created, now()), sealed"
        " FROM unnest(%(ids)s, %(contents)s, %(metadata)s, %(created)s::timestamptz[],"
        " %(updated)s::timestamptz[], %(sealed)s::bytea[]) WITH ORDINALITY AS n(id, content,"
        " metadata, created, updated, sealed, i)"
        " RETURNING id, metadata, created_at, updated_at, version, content_version",
        {**_columns(arrivals, key), "vectors": given, "width": given.shape[1]},
    )
    await insert_keys(tx, [(a.id, a.new) for a in arrivals])
    await _insert_chunks(tx, arrivals, {row[0]: row[5] for row in rows}, key)
    found = {row[0]: row for row in rows}
    return [_document(a, found[a.id]) for a in arrivals]


def _columns(arrivals: Sequence[Arrival], key: sealing.Key | None) -> dict[str, object]:
    created: list[datetime | None] = [a.new.created_at for a in arrivals]
    sealed = [] if key is None else [seal(key, a.id, a.new.content) for a in arrivals]
    return {
        "ids": Ids(a.id for a in arrivals),
        "contents": Texts("" if sealed else a.new.content for a in arrivals),
        "sealed": sealed,
        "metadata": Texts(orjson.dumps(a.new.metadata).decode() for a in arrivals),
        "created": created,
        "updated": [a.new.updated_at for a in arrivals],
    }


def _document(arrival: Arrival, row: Record) -> Document:
    id, metadata, created_at, updated_at, version, _ = row
    key = arrival.new.key or str(id)
    return Document(
        id, key, arrival.new.content, metadata, created_at, updated_at, version, "indexed"
    )


async def _insert_chunks(
    tx: Transaction, arrivals: Sequence[Arrival], versions: dict[UUID, int], key: sealing.Key | None
) -> None:
    """One chunk a document, which is all of it."""
    await tx.execute(
        "INSERT INTO chunks (id, document_id, content_version, ordinal, start_at, end_at, text,"
        " sealed, words) SELECT id, document, version, 0, 0, char_length(text),"
        " CASE WHEN sealed IS NULL THEN text ELSE '' END, sealed,"
        " passage_words('', text, sealed IS NOT NULL) FROM unnest(%(ids)s, %(documents)s,"
        " %(versions)s::bigint[], %(texts)s, %(sealed)s::bytea[])"
        " AS n(id, document, version, text, sealed)",
        {
            "ids": Ids(a.chunk_id for a in arrivals),
            "documents": Ids(a.id for a in arrivals),
            "versions": [versions[a.id] for a in arrivals],
            "texts": Texts(a.new.content for a in arrivals),
            "sealed": [] if key is None else [_sealed(key, a) for a in arrivals],
        },
    )


def _sealed(key: sealing.Key, arrival: Arrival) -> bytes:
    return sealing.seal_passage(key, arrival.chunk_id, "", arrival.new.content)


async def embed(
    tx: Transaction, model_id: int, arrivals: Sequence[Arrival], vectors: Vectors
) -> None:
    """Store the chunks' vectors, one row each, for a model."""
    await tx.execute(
        "INSERT INTO embeddings (model_id, chunk_id, document_id, vector)"
        " SELECT %(model)s, c, d, (%(vectors)s)[(i - 1) * %(width)s + 1 : i * %(width)s]::halfvec"
        " FROM unnest(%(chunks)s, %(documents)s) WITH ORDINALITY AS n(c, d, i)",
        {
            "model": model_id,
            "chunks": Ids(a.chunk_id for a in arrivals),
            "documents": Ids(a.id for a in arrivals),
            "vectors": vectors,
            "width": vectors.shape[1],
        },
    )
