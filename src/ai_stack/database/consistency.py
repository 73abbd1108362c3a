"""What fsck asks of the rows: whether documents, chunks, embeddings and index tell the same."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from ai_stack.database import Database, Transaction

START = UUID(int=0)


@dataclass(frozen=True, slots=True)
class DocumentFaults:
    """What is wrong with a document that waits for no change."""

    document_id: UUID
    unchunked: bool
    stale: bool
    unembedded: bool


@dataclass(frozen=True, slots=True)
class StoredVector:
    """An embedding, and the document that its chunk is of, None without a chunk."""

    chunk_id: UUID
    document_id: UUID
    chunk_document_id: UUID | None


async def projects(database: Database) -> list[UUID]:
    """All projects."""
    async with database.transaction(None) as tx:
        return [row[0] for row in await tx.rows("SELECT tenant.list_projects()")]


async def counts(tx: Transaction) -> tuple[int, int]:
    """(documents, chunks) of the project."""
    row = await tx.row("SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM chunks)")
    return (0, 0) if row is None else (row[0], row[1])


async def count_vectors(tx: Transaction, model_id: int) -> int:
    """The project's embeddings of a model."""
    row = await tx.row(f"SELECT count(*) FROM embeddings WHERE model_id = {int(model_id)}")
    return 0 if row is None else int(row[0])


async def count_missing(tx: Transaction, model_id: int) -> int:
    """Chunks without an embedding of a model that no change under way will give one."""
    row = await tx.row(
        "SELECT count(*) FROM chunks c WHERE NOT EXISTS"
        f" (SELECT FROM embeddings e WHERE e.chunk_id = c.id AND e.model_id = {int(model_id)})"
        " AND NOT EXISTS (SELECT FROM dirty x WHERE x.document_id = c.document_id)"
    )
    return 0 if row is None else int(row[0])


async def documents_without(tx: Transaction, model_id: int, limit: int) -> list[UUID]:
    """Some documents with chunks that have no embedding of a model."""
    rows = await tx.rows(
        "SELECT DISTINCT document_id FROM (SELECT c.document_id FROM chunks c WHERE NOT EXISTS"
        f" (SELECT FROM embeddings e WHERE e.chunk_id = c.id AND e.model_id = {int(model_id)})"
        " LIMIT %(limit)s) lacking",
        {"limit": limit},
    )
    return [row[0] for row in rows]


async def documents_after(tx: Transaction, after: UUID, limit: int) -> list[UUID]:
    """The next documents in the order of our ids."""
    rows = await tx.rows(
        "SELECT id FROM documents WHERE id > %(after)s ORDER BY id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )
    return [row[0] for row in rows]


async def document_faults(
    tx: Transaction, ids: Collection[UUID], model_ids: Sequence[int]
) -> list[DocumentFaults]:
    """Those of these documents that lack chunks, vectors of a model, or a cut of their content."""
    unembedded = " OR ".join(
        "EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id AND NOT EXISTS"
        f" (SELECT FROM embeddings e WHERE e.chunk_id = c.id AND e.model_id = {int(id)}))"
        for id in model_ids
    )
    rows = await tx.rows(
        "SELECT * FROM (SELECT d.id,"
        " NOT EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id) AS unchunked,"
        " EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id AND (c.content_version <>"
        " d.content_version"
        # Of a long content each comparison would read the whole.
        # What is sealed cannot be compared here: who opens it is told where it was changed.
        " OR (d.sealed IS NULL AND c.sealed IS NULL AND octet_length(d.content) < 1000000"
        " AND c.text <> substr(d.content, c.start_at + 1, c.end_at - c.start_at))))"
        " AS stale,"
        f" ({unembedded or 'false'}) AS unembedded FROM documents d WHERE id = ANY (%(ids)s)"
        " AND NOT EXISTS (SELECT FROM dirty x WHERE x.document_id = d.id)) found"
        " WHERE unchunked OR stale OR unembedded",
        {"ids": list(ids)},
    )
    return [DocumentFaults(*row) for row in rows]


async def vectors_after(
    tx: Transaction, model_id: int, after: UUID, limit: int
) -> list[StoredVector]:
    """The next embeddings of a model in the order of their chunks."""
    rows = await tx.rows(
        "SELECT e.chunk_id, e.document_id, c.document_id FROM embeddings e"
        f" LEFT JOIN chunks c ON c.id = e.chunk_id WHERE e.model_id = {int(model_id)}"
        " AND e.chunk_id > %(after)s ORDER BY e.chunk_id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )
    return [StoredVector(*row) for row in rows]


async def places(tx: Transaction, model_id: int, chunk_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Chunk -> document of those chunks that have an embedding of a model in this project."""
    rows = await tx.rows(
        f"SELECT chunk_id, document_id FROM embeddings WHERE model_id = {int(model_id)}"
        " AND chunk_id = ANY (%(ids)s)",
        {"ids": list(chunk_ids)},
    )
    return {row[0]: row[1] for row in rows}


async def changing(tx: Transaction, ids: Collection[UUID]) -> set[UUID]:
    """Those of these documents that have a change which the index has not followed."""
    rows = await tx.rows(
        "SELECT document_id FROM dirty WHERE document_id = ANY (%(ids)s)", {"ids": list(ids)}
    )
    return {row[0] for row in rows}


async def cut_anew(tx: Transaction, ids: Collection[UUID]) -> None:
    """Have the content of these documents cut again when the index follows them next."""
    await tx.execute(
        "UPDATE documents SET content_version = nextval('aidb.versions') WHERE id = ANY (%(ids)s)",
        {"ids": list(ids)},
    )


async def delete_vectors(tx: Transaction, model_id: int, chunk_ids: Collection[UUID]) -> None:
    """Remove embeddings that belong to nothing."""
    await tx.execute(
        f"DELETE FROM embeddings WHERE model_id = {int(model_id)} AND chunk_id = ANY (%(ids)s)",
        {"ids": list(chunk_ids)},
    )
