"""Searches, and what they find."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from ai_stack.models.documents import Document
from ai_stack.models.filters import Filter

SearchMode = Literal["semantic", "keyword", "hybrid"]


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """`query` is text; `vector`, where given, is searched for instead of its embedding.

    `hybrid_weight` is the keywords' share of a hybrid search, in place of the setting's.
    """

    query: str | None = None
    vector: Sequence[float] | None = None
    limit: int = 10
    offset: int = 0
    filter: Filter | None = None
    mode: SearchMode = "hybrid"
    rerank: bool = False
    min_score: float | None = None
    hybrid_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that a search found; `score` is higher for the better, cosine for vectors."""

    chunk_id: UUID
    document_id: UUID
    score: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document: `start` and `end` count code points of its content."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    document: Document
    score: float
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """`degraded` names, in a sentence, what was left out because a part is down."""

    results: Sequence[SearchResult]
    took_ms: float
    cached: bool = False
    degraded: str | None = None
