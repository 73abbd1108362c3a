"""Documents that come from files, as rows: added or replaced under their keys, many at once."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import orjson

from ai_stack.database import Transaction, sealing
from ai_stack.database import documents as rows
from ai_stack.models.documents import NewDocument

Change = Literal["added", "updated", "unchanged"]
SAME = "coalesce(n.same, d.content = n.content)"  # what is sealed is compared where it is opened


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a document, and the version of its change, which the index follows."""

    document_id: UUID
    change: Change
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """A document that was made of a file of the watched folder."""

    document_id: UUID
    source_hash: str | None


async def upsert(tx: Transaction, new: Sequence[NewDocument]) -> list[Stored]:
    """Store documents of different keys, each in the place of the one that has its key now.

    One that is the same already is left as it is. Raises AlreadyExists when another
    transaction took one of the keys meanwhile: then do it all again.
    """
    present = await _present(tx, [_key(d) for d in new])
    await tx.execute(
        "SELECT 1 FROM documents WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE",
        {"ids": list(present.values())},
    )
    fresh = iter(sorted(tx.new_id() for _ in new))  # in the order of the documents given
    ids = [present.get(_key(d)) or next(fresh) for d in new]
    added = [(id, d) for id, d in zip(ids, new, strict=True) if _key(d) not in present]
    if added:
        await rows.insert(tx, added)
    replaced = [(id, d) for id, d in zip(ids, new, strict=True) if _key(d) in present]
    changes: dict[UUID, Change] = {id: "added" for id, _ in added}
    changes |= dict.fromkeys(await _replace(tx, replaced), "updated")
    leases = await rows.mark_dirty(tx, changes) if changes else []
    versions = {lease.document_id: lease.version for lease in leases}
    return [Stored(id, changes.get(id, "unchanged"), versions.get(id)) for id in ids]


def _key(document: NewDocument) -> str:
    assert document.key is not None
    return document.key


async def _present(tx: Transaction, keys: Sequence[str]) -> dict[str, UUID]:
    """The documents that these keys name: by a caller's key, or by our own id."""
    found = await tx.rows(
        "SELECT n.key, coalesce(k.document_id, d.id)"
        " FROM unnest(%(keys)s::text[], %(ids)s::uuid[]) AS n(key, id)"
        " LEFT JOIN document_keys k ON k.key = n.key"
        " LEFT JOIN documents d ON d.id = n.id"
        " WHERE coalesce(k.document_id, d.id) IS NOT NULL",
        {"keys": list(keys), "ids": [rows.as_uuid(key) for key in keys]},
    )
    return {row[0]: row[1] for row in found}


async def _replace(tx: Transaction, new: Sequence[tuple[UUID, NewDocument]]) -> list[UUID]:
    """Give documents another content, metadata and times where they differ; those that did."""
    if not new:
        return []
    changed = await tx.rows(
        "UPDATE documents d SET content = n.content, sealed = n.sealed, metadata = n.metadata,"
        " vector = CASE WHEN n.vector IS NOT NULL THEN n.vector::halfvec"
        f"   WHEN {SAME} THEN d.vector END,"
        f" content_version = CASE WHEN n.vector IS NULL AND {SAME}"
        "   AND d.metadata->'title' IS NOT DISTINCT FROM n.metadata->'title'"
        "   THEN d.content_version ELSE nextval('aidb.versions') END,"
        " version = nextval('aidb.versions'), created_at = coalesce(n.created, d.created_at),"
        " updated_at = coalesce(n.updated, now())"
        " FROM unnest(%(ids)s::uuid[], %(contents)s::text[], %(metadata)s::jsonb[],"
        " %(vectors)s::text[], %(created)s::timestamptz[], %(updated)s::timestamptz[],"
        " %(sealed)s::bytea[], %(same)s::bool[])"
        " AS n(id, content, metadata, vector, created, updated, sealed, same)"
        f" WHERE d.id = n.id AND (NOT {SAME} OR d.metadata <> n.metadata"
        " OR d.created_at <> n.created OR d.updated_at <> n.updated"
        " OR d.vector IS DISTINCT FROM coalesce(n.vector::halfvec, d.vector)) RETURNING d.id",
        {
            "ids": [id for id, _ in new],
            **await _contents(tx, new),
            "metadata": [json.dumps(d.metadata) for _, d in new],
            "vectors": [None if d.vector is None else _text(d.vector) for _, d in new],
            "created": [d.created_at for _, d in new],
            "updated": [d.updated_at for _, d in new],
        },
    )
    await _keep_hashes(tx, new)
    return [row[0] for row in changed]


async def _contents(tx: Transaction, new: Sequence[tuple[UUID, NewDocument]]) -> dict[str, object]:
    """The contents as they are written, and in a sealed project whether they are as before."""
    key = await sealing.sealer(tx)
    if key is None and not await sealing.are_any(tx, [id for id, _ in new]):
        return {"contents": [d.content for _, d in new], "sealed": [], "same": []}
    before = await rows.contents(tx, [id for id, _ in new])
    return {
        "contents": [d.content if key is None else "" for _, d in new],
        "sealed": [rows.seal(key, id, d.content) for id, d in new],
        "same": [before.get(id) == d.content for id, d in new],
    }


async def _keep_hashes(tx: Transaction, new: Sequence[tuple[UUID, NewDocument]]) -> None:
    await tx.execute(
        "UPDATE document_keys k SET source_hash = decode(n.hash, 'hex')"
        " FROM unnest(%(ids)s::uuid[], %(hashes)s::text[]) AS n(id, hash)"
        " WHERE k.document_id = n.id AND k.source_hash IS DISTINCT FROM decode(n.hash, 'hex')",
        {"ids": [id for id, _ in new], "hashes": [d.source_hash for _, d in new]},
    )


async def sources(tx: Transaction, keys: Collection[str]) -> dict[str, tuple[UUID, str]]:
    """Key -> (our id, sha256 of the file it was read from), of those that have one."""
    found = await tx.rows(
        "SELECT key, document_id, encode(source_hash, 'hex') FROM document_keys"
        " WHERE key = ANY (%(keys)s) AND source_hash IS NOT NULL",
        {"keys": list(keys)},
    )
    return {row[0]: (row[1], row[2]) for row in found}


async def followed(tx: Transaction, prefix: str, source: str) -> dict[str, Followed]:
    """The documents under a prefix that came from a source and still say so, by key."""
    found = await tx.rows(
        "SELECT k.key, d.id, encode(k.source_hash, 'hex') FROM document_keys k"
        " JOIN documents d ON d.id = k.document_id"
        " WHERE k.key ^@ %(prefix)s AND d.metadata ->> 'source' = %(source)s",
        {"prefix": prefix, "source": source},
    )
    return {row[0]: Followed(row[1], row[2]) for row in found}


async def move(tx: Transaction, id: UUID, key: str, path: str) -> bool:
    """Give a document the key and path of its file's new place; False when the key is taken."""
    done = await tx.execute(
        "UPDATE document_keys SET key = %(key)s WHERE document_id = %(id)s"
        " AND NOT EXISTS (SELECT 1 FROM document_keys WHERE key = %(key)s)",
        {"id": id, "key": key},
    )
    await tx.execute(
        "UPDATE documents SET metadata = metadata || jsonb_build_object('path', %(path)s::text),"
        " version = nextval('aidb.versions'), updated_at = now()"
        " WHERE id = %(id)s AND %(moved)s",
        {"id": id, "path": path, "moved": done.rowcount > 0},
    )
    return done.rowcount > 0


async def behind(
    tx: Transaction, run_id: UUID, first: int, last: int
) -> tuple[int, int, str | None]:
    """(waiting, given up, an error) of the changes that an import made, as the index is now.

    They are those of its files' documents, and those between two versions.
    """
    row = await tx.row(
        "SELECT count(*) FILTER (WHERE NOT failed), count(*) FILTER (WHERE failed),"
        " min(error) FILTER (WHERE NOT failed) FROM dirty"
        " WHERE version BETWEEN %(first)s AND %(last)s OR document_id IN (SELECT document_id"
        "  FROM run_files WHERE run_id = %(run)s AND document_id IS NOT NULL)",
        {"first": first, "last": last, "run": run_id},
    )
    return (0, 0, None) if row is None else (row[0], row[1], row[2])


def _text(vector: Sequence[float]) -> str:
    return orjson.dumps(list(vector)).decode()
