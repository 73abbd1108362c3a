"""Documents as callers know them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
Metadata: TypeAlias = Mapping[str, JSON]
DocumentState = Literal["pending", "indexed", "failed"]


@dataclass(frozen=True, slots=True)
class NewDocument:
    """What a caller gives; `key` is the caller's own id, `vector` replaces the embedder's.

    `created_at` and `updated_at` are given by an import of an export, which restores them.
    `source_hash` is the sha256 of the file that the text was read from.
    """

    content: str
    metadata: Metadata = field(default_factory=dict)
    key: str | None = None
    vector: Sequence[float] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    source_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document; `id` is the caller's key where there is one, else the uuid."""

    uuid: UUID
    id: str
    content: str
    metadata: Metadata
    created_at: datetime
    updated_at: datetime
    version: int
    state: DocumentState = "pending"
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """One page of a list; `next_cursor` is None on the last."""

    items: Sequence[Document]
    next_cursor: str | None
