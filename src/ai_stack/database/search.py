"""The reads of a search: chunks by their words, and what hits look like when shown.

These run on psycopg's own pool, project and query in one round trip, since a search is nothing
but these and the vector engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from uuid import UUID

from ai_stack.database import Database, Record
from ai_stack.database.arrays import Ids
from ai_stack.database.documents import COLUMNS, SOURCE, from_row
from ai_stack.database.filters import compile_filter
from ai_stack.models.documents import Document
from ai_stack.models.filters import Filter
from ai_stack.models.search import Hit

RARE_ENOUGH = 4000
WEIGHTS = "{0.5, 0.5, 0.5, 1.0}"


@dataclass(frozen=True, slots=True)
class Shown:
    """A chunk that was hit, with its document."""

    chunk_id: UUID
    start: int
    end: int
    text: str
    document: Document


# The text of a chunk is a part of its document's content, unless that has changed since.
TEXT = "CASE WHEN c.content_version <> d.content_version THEN c.text END"


async def show(
    database: Database, project_id: UUID, chunk_ids: Sequence[UUID], filter: Filter | None = None
) -> list[Shown]:
    """Those of the chunks that exist now and whose documents satisfy the filter now."""
    condition, parameters = compile_filter(filter)
    rows = await database.read(
        project_id,
        f"SELECT c.id, c.start_at, c.end_at, {TEXT}, {COLUMNS} FROM {SOURCE}"
        f" JOIN chunks c ON c.document_id = d.id WHERE c.id = ANY (%(ids)s) AND {condition}",
        {"ids": Ids(chunk_ids), **parameters},
    )
    return [_shown(row) for row in rows]


def _shown(row: Record) -> Shown:
    chunk_id, start, end, text = row[:4]
    document = from_row(row[4:])
    return Shown(
        chunk_id, start, end, document.content[start:end] if text is None else text, document
    )


async def keyword(
    database: Database, project_id: UUID, query: str, limit: int, filter: Filter | None
) -> list[Hit]:
    """Chunks with any of the query's telling words, the sum of those words' rarity first.

    The score is Σ idf(word) · rank(word), a saturating count of the word in the chunk in which
    its heading counts double: BM25's shape (Robertson and Zaragoza 2009) without its length
    term, since chunks are of one length.
    """
    words = await _telling_words(database, project_id, query)
    if not words:
        return []
    condition, parameters = compile_filter(filter)
    score = " + ".join(
        f"%(i{n})s * ts_rank('{WEIGHTS}', c.words, %(w{n})s::tsquery)" for n in range(len(words))
    )
    for n, (word, rarity) in enumerate(words):
        parameters |= {f"w{n}": word, f"i{n}": rarity}
    rows = await database.read(
        project_id,
        f"SELECT c.id, c.document_id, ({score})::float8 AS score FROM chunks c"
        f" JOIN documents d ON d.id = c.document_id"
        f" WHERE c.words @@ %(any)s::tsquery AND {condition} ORDER BY score DESC, c.id LIMIT %(n)s",
        {**parameters, "any": " | ".join(word for word, _ in words), "n": limit},
    )
    return [Hit(*row) for row in rows]


async def _telling_words(
    database: Database, project_id: UUID, query: str
) -> list[tuple[str, float]]:
    """(word as a tsquery, idf), rarest first, without the words too common to tell anything."""
    rows = await database.read(
        project_id,
        "WITH wanted AS (SELECT lexeme FROM unnest(public.search_words(%(query)s))),"
        " common AS (SELECT * FROM tenant.common_words((SELECT array_agg(lexeme) FROM wanted)))"
        " SELECT quote_literal(lexeme), share, tenant.count_chunks() FROM wanted"
        " LEFT JOIN common ON common.word = lexeme",
        {"query": query},
    )
    return _rarest([(r[0], r[1], r[2]) for r in rows])


def _rarest(rows: Sequence[Record]) -> list[tuple[str, float]]:
    """As many words, rarest first, as match RARE_ENOUGH chunks together; at least one."""
    known = sorted((share or 0.0, word, total) for word, share, total in rows)
    kept: list[tuple[str, float]] = []
    matched = 0.0
    for share, word, total in known[:32]:
        matched += share * total
        if kept and matched > RARE_ENOUGH:
            break
        kept.append((word, log(1 + 1 / max(share, 1e-4))))
    return kept
