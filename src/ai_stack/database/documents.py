"""Documents and their callers' keys, as rows; every write marks its document dirty."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
import orjson
from psycopg.errors import UniqueViolation
from sqlalchemy.exc import IntegrityError

from ai_stack.database import Record, Transaction, sealing
from ai_stack.database.arrays import Ids
from ai_stack.database.filters import compile_filter
from ai_stack.errors import AlreadyExists, NotFound
from ai_stack.models.documents import Document, DocumentState, Metadata, NewDocument
from ai_stack.models.filters import Filter

COLUMNS = """
d.id, coalesce(k.key, d.id::text), d.content, d.metadata, d.created_at, d.updated_at, d.version,
CASE WHEN x.document_id IS NULL THEN 'indexed' WHEN x.failed THEN 'failed' ELSE 'pending' END,
CASE WHEN x.failed THEN x.error END, d.sealed"""
SOURCE = """
documents d LEFT JOIN document_keys k ON k.document_id = d.id
LEFT JOIN dirty x ON x.document_id = d.id"""

# The bytes of a content; an envelope is a few longer than what is in it.
SIZE = "coalesce(octet_length(d.sealed), octet_length(d.content))"
HAS_WORDS = """
d.id IN (SELECT document_id FROM chunks WHERE words @@ (SELECT
string_agg(quote_literal(lexeme), ' & ')::tsquery FROM unnest(search_words(%(search)s))))"""

STATES: dict[DocumentState | None, str] = {
    None: "true",
    "indexed": "x.document_id IS NULL",
    "pending": "NOT x.failed",
    "failed": "x.failed",
}


@dataclass(frozen=True, slots=True)
class Lease:
    """A change to follow: the document, its project, and the version of the change."""

    document_id: UUID
    project_id: UUID
    version: int
    tries: int = 1


def from_row(row: Record, keys: sealing.Opener = sealing.NOTHING) -> Document:
    """A document of COLUMNS, whose last is its sealed content."""
    id, key, content, *rest, sealed = row
    if sealed is not None:
        content = keys.text(sealing.document(id), sealed, "")
    return Document(id, key, content, *rest)


async def insert(tx: Transaction, new: Sequence[tuple[UUID, NewDocument]]) -> None:
    """Store documents under our ids; AlreadyExists when one of the callers' keys is taken."""
    key = await sealing.sealer(tx)
    await tx.execute(
        "INSERT INTO documents (id, content, metadata, vector, created_at, updated_at, sealed)"
        " SELECT id, content, metadata, vector::halfvec, coalesce(created, now()),"
        " coalesce(updated, created, now()), sealed FROM json_to_recordset(%(rows)s::json)"
        " AS n(id uuid, content text, metadata jsonb, vector text, created timestamptz,"
        " updated timestamptz, sealed bytea)",
        {"rows": orjson.dumps([_row(id, document, key) for id, document in new]).decode()},
    )
    await insert_keys(tx, new)


def _row(id: UUID, document: NewDocument, key: sealing.Key | None) -> dict[str, object]:
    sealed = seal(key, id, document.content)
    return {
        "id": id,
        "content": document.content if sealed is None else "",
        "sealed": None if sealed is None else f"\\x{sealed.hex()}",
        "metadata": document.metadata,
        "vector": _halfvec(document.vector),
        "created": document.created_at,
        "updated": document.updated_at,
    }


def seal(key: sealing.Key | None, id: UUID, content: str) -> bytes | None:
    """A content in its envelope; None in a project that is not sealed."""
    return None if key is None else key.seal(sealing.document(id), content.encode())


async def insert_keys(tx: Transaction, new: Sequence[tuple[UUID, NewDocument]]) -> None:
    """Store the callers' keys of new documents; AlreadyExists when one is taken."""
    keyed = [(id, d.key, d.source_hash) for id, d in new if d.key is not None]
    if not keyed:
        return
    await _check_free(tx, [key for _, key, _ in keyed])
    try:
        await tx.execute(
            "INSERT INTO document_keys (document_id, key, source_hash)"
            " SELECT id, key, decode(hash, 'hex')"
            " FROM unnest(%(ids)s::uuid[], %(keys)s::text[], %(hashes)s::text[])"
            " AS n(id, key, hash)",
            {
                "ids": [k[0] for k in keyed],
                "keys": [k[1] for k in keyed],
                "hashes": [k[2] for k in keyed],
            },
        )
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation):
            raise AlreadyExists("A document with this id exists in this project.") from error
        raise


async def _check_free(tx: Transaction, keys: Sequence[str]) -> None:
    """Refuse a key that is one of our ids: its document could be reached no more."""
    ids = [id for key in keys if (id := as_uuid(key)) is not None]
    if ids and await tx.rows("SELECT 1 FROM documents WHERE id = ANY (%(ids)s)", {"ids": ids}):
        raise AlreadyExists("A document with this id exists in this project.")


def as_uuid(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None


async def mark_dirty(tx: Transaction, ids: Collection[UUID], lease_s: float = 0) -> list[Lease]:
    """Have the index follow these documents; a lease keeps them for the caller meanwhile.

    Called in the transaction of the change itself, so neither is there without the other.
    """
    rows = await tx.rows(
        "INSERT INTO dirty (document_id, project_id, due)"
        " SELECT id, tenant.project(), now() + make_interval(secs => %(lease)s)"
        " FROM unnest(%(ids)s::uuid[]) AS n(id) ORDER BY id"
        " ON CONFLICT (document_id) DO UPDATE SET version = nextval('aidb.versions'),"
        " due = excluded.due, tries = 0, failed = false, error = NULL"
        " RETURNING document_id, project_id, version",
        {"ids": Ids(ids), "lease": lease_s},
    )
    return [Lease(*row) for row in rows]


async def find(tx: Transaction, id: str, *, lock: bool = False) -> Document:
    """The document of a caller's key or of one of our ids; NotFound."""
    uuid = await _resolve(tx, id)
    found = [] if uuid is None else await fetch(tx, [uuid], lock=lock)
    if not found:
        raise NotFound("There is no document with this id.")
    return found[0]


async def _resolve(tx: Transaction, id: str) -> UUID | None:
    row = await tx.row("SELECT document_id FROM document_keys WHERE key = %(id)s", {"id": id})
    if row is not None:
        return UUID(str(row[0]))
    return as_uuid(id)


async def fetch(tx: Transaction, ids: Collection[UUID], *, lock: bool = False) -> list[Document]:
    """The documents that there are of these, in the order of our ids."""
    locking = " FOR UPDATE OF d" if lock else ""
    rows = await tx.rows(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE d.id = ANY (%(ids)s) ORDER BY d.id{locking}",
        {"ids": Ids(ids)},
    )
    keys = await sealing.opener(tx, (row[-1] for row in rows))
    return [from_row(row, keys) for row in rows]


async def contents(tx: Transaction, ids: Collection[UUID]) -> dict[UUID, str]:
    """The contents of these documents."""
    rows = await tx.rows(
        "SELECT id, content, sealed FROM documents WHERE id = ANY (%(ids)s)", {"ids": Ids(ids)}
    )
    keys = await sealing.opener(tx, (row[2] for row in rows))
    return {row[0]: keys.text(sealing.document(row[0]), row[2], row[1]) for row in rows}


async def matching(
    tx: Transaction,
    *,
    after: UUID | None,
    limit: int,
    filter: Filter | None,
    search: str | None,
    state: DocumentState | None = None,
) -> list[tuple[UUID, int]]:
    """(our id, bytes of content) of documents in the order of our ids, after one of them."""
    condition, parameters = compile_filter(filter)
    words = HAS_WORDS if search else "true"
    rows = await tx.rows(
        f"SELECT d.id, {SIZE} FROM {SOURCE}"
        f" WHERE {condition} AND {words} AND {STATES[state]}"
        " AND (%(after)s::uuid IS NULL OR d.id > %(after)s) ORDER BY d.id LIMIT %(limit)s",
        {**parameters, "after": after, "limit": limit, "search": search},
    )
    return [(row[0], row[1]) for row in rows]


async def replace(
    tx: Transaction,
    document: Document,
    *,
    content: str,
    metadata: Metadata,
    vector: Sequence[float] | None,
    source_hash: str | None = None,
    updated_at: datetime | None = None,
) -> None:
    """Give a document that this unit of work has locked another content and metadata, and a
    new version."""
    sealed = seal(await sealing.sealer(tx), document.uuid, content)
    await tx.execute(
        "UPDATE documents SET content = %(content)s, sealed = %(sealed)s, metadata = %(metadata)s,"
        " vector = CASE WHEN %(vector)s::text IS NOT NULL THEN %(vector)s::halfvec"
        "   WHEN %(same)s THEN vector END,"
        " content_version = CASE WHEN %(vector)s::text IS NULL AND %(same)s"
        "   AND metadata->'title' IS NOT DISTINCT FROM %(metadata)s::jsonb->'title'"
        "   THEN content_version ELSE nextval('aidb.versions') END,"
        " version = nextval('aidb.versions'), updated_at = coalesce(%(updated)s, now())"
        " WHERE id = %(id)s",
        {
            "id": document.uuid,
            "content": content if sealed is None else "",
            "sealed": sealed,
            "same": content == document.content,
            "metadata": json.dumps(metadata),
            "vector": _halfvec(vector),
            "updated": updated_at,
        },
    )
    if source_hash is not None:
        await tx.execute(
            "UPDATE document_keys SET source_hash = decode(%(hash)s, 'hex')"
            " WHERE document_id = %(id)s",
            {"id": document.uuid, "hash": source_hash},
        )


async def delete(tx: Transaction, ids: Collection[UUID]) -> None:
    """Remove documents with their keys, chunks and embeddings."""
    await tx.execute("DELETE FROM documents WHERE id = ANY (%(ids)s)", {"ids": list(ids)})


async def sources(tx: Transaction, prefix: str) -> dict[str, tuple[UUID, str | None]]:
    """Key -> (our id, sha256 of the file it was read from), of the keys under a prefix."""
    rows = await tx.rows(
        "SELECT key, document_id, encode(source_hash, 'hex') FROM document_keys"
        " WHERE key ^@ %(prefix)s",
        {"prefix": prefix},
    )
    return {row[0]: (row[1], row[2]) for row in rows}


async def source(tx: Transaction, key: str) -> tuple[UUID, str | None] | None:
    """Our id and the source's sha256 of one key."""
    row = await tx.row(
        "SELECT document_id, encode(source_hash, 'hex') FROM document_keys WHERE key = %(key)s",
        {"key": key},
    )
    return None if row is None else (row[0], row[1])


def _halfvec(vector: Sequence[float] | None) -> str | None:
    """The text form that a vector column reads."""
    if vector is None:
        return None
    return orjson.dumps(np.asarray(vector, np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()
