"""Documents as an export gives them away: whole, in the order of our ids, a few at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ai_stack.database import Record, Transaction, sealing
from ai_stack.database.documents import SIZE
from ai_stack.database.filters import compile_filter
from ai_stack.models.filters import Filter


@dataclass(frozen=True, slots=True)
class Exported:
    """A document; its metadata and its given vector are JSON texts, as they are stored."""

    id: str
    content: str
    metadata: str
    created_at: datetime
    updated_at: datetime
    vector: str | None


async def sizes(
    tx: Transaction, *, after: UUID | None, limit: int, filter: Filter | None
) -> list[tuple[UUID, int]]:
    """The next documents, and the bytes of each one's content."""
    condition, parameters = compile_filter(filter)
    found = await tx.rows(
        f"SELECT d.id, {SIZE} FROM documents d WHERE {condition}"
        " AND (%(after)s::uuid IS NULL OR d.id > %(after)s) ORDER BY d.id LIMIT %(limit)s",
        {**parameters, "after": after, "limit": limit},
    )
    return [(row[0], row[1]) for row in found]


async def fetch(tx: Transaction, ids: Sequence[UUID]) -> list[Exported]:
    """Documents in the order of our ids."""
    found = await tx.rows(
        "SELECT coalesce(k.key, d.id::text), d.content, d.metadata::text, d.created_at,"
        " d.updated_at, d.vector::text, d.id, d.sealed FROM documents d"
        " LEFT JOIN document_keys k ON k.document_id = d.id"
        " WHERE d.id = ANY (%(ids)s) ORDER BY d.id",
        {"ids": list(ids)},
    )
    keys = await sealing.opener(tx, (row[7] for row in found))
    return [_exported(row, keys) for row in found]


def _exported(row: Record, keys: sealing.Opener) -> Exported:
    key, content, *rest, id, sealed = row
    return Exported(key, keys.text(sealing.document(id), sealed, content), *rest)
