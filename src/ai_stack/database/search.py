"""The reads of a search: chunks by their words, and what hits look like when shown.

These run on psycopg's own pool, project and query in one round trip, since a search is nothing
but these and the vector engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from ai_stack.database import Database, Record, sealing
from ai_stack.database.arrays import Ids
from ai_stack.database.documents import COLUMNS, SOURCE, from_row
from ai_stack.database.filters import compile_filter
from ai_stack.models.documents import Document
from ai_stack.models.filters import Filter
from ai_stack.models.search import Hit

RARE_ENOUGH = 4000
WEIGHTS = "{0.5, 0.5, 0.5, 1.0}"
TELLING = """
WITH wanted AS MATERIALIZED (SELECT lexeme FROM unnest(public.search_words(%(query)s))),
shared AS MATERIALIZED (
  SELECT lexeme, coalesce(share, 0)::float8 AS share FROM wanted
  LEFT JOIN tenant.common_words((SELECT array_agg(lexeme) FROM wanted)) ON word = lexeme
  ORDER BY 2, 1 LIMIT 32),
counted AS (
  SELECT lexeme, share, row_number() OVER rarest AS place,
    tenant.count_chunks() * sum(share) OVER rarest AS matched
  FROM shared WINDOW rarest AS (ORDER BY share, lexeme ROWS UNBOUNDED PRECEDING)),
telling AS MATERIALIZED (
  SELECT quote_literal(lexeme)::tsquery AS word, ln(1 + 1 / greatest(share, 1e-4)) AS rarity
  FROM counted WHERE place = 1 OR matched <= %(enough)s)"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A chunk that was hit, with its document."""

    chunk_id: UUID
    start: int
    end: int
    text: str
    document: Document


# The text of a chunk is a part of its document's content, unless that has changed since.
TEXT = (
    "CASE WHEN c.content_version <> d.content_version THEN c.text END,"
    " CASE WHEN c.content_version <> d.content_version THEN c.sealed END"
)


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
    sealed = [value for row in rows for value in (row[4], row[-1]) if value is not None]
    keys = await _opener(database, project_id, sealed) if sealed else sealing.NOTHING
    return [_shown(row, keys) for row in rows]


async def _opener(database: Database, project_id: UUID, sealed: list[bytes]) -> sealing.Opener:
    rows = partial(database.read, project_id)
    return await sealing.opener_of(rows, database.keyring, sealed)


def _shown(row: Record, keys: sealing.Opener) -> Shown:
    chunk_id, start, end, plain, sealed = row[:5]
    document = from_row(row[5:], keys)
    if plain is None:
        return Shown(chunk_id, start, end, document.content[start:end], document)
    return Shown(chunk_id, start, end, keys.passage(chunk_id, sealed, "", plain)[1], document)


async def keyword(
    database: Database,
    project_id: UUID,
    query: str,
    limit: int,
    filter: Filter | None,
    *,
    enough: int = RARE_ENOUGH,
) -> list[Hit]:
    """Chunks with any of the query's telling words, the sum of those words' rarity first.

    The score is Σ idf(word) · rank(word), a saturating count of the word in the chunk in which
    its heading counts double: BM25's shape (Robertson and Zaragoza 2009) without its length
    term, since chunks are of one length. The telling words are as many, rarest first, as match
    `enough` chunks together, and at least one: what a search costs is the chunks that it ranks.
    """
    condition, parameters = compile_filter(filter)
    # A chunk goes with its document, so its document is read for a filter alone.
    documents = "" if filter is None else "JOIN documents d ON d.id = c.document_id"
    rows = await database.read(
        project_id,
        f"{TELLING} SELECT id, document_id, sum(score) AS score FROM (SELECT c.id, c.document_id,"
        f" t.rarity * ts_rank('{WEIGHTS}', c.words, t.word) AS score FROM telling t"
        f" JOIN chunks c ON c.words @@ t.word {documents} WHERE {condition}) found"
        " GROUP BY id, document_id ORDER BY score DESC, id LIMIT %(n)s",
        {**parameters, "query": query, "enough": enough, "n": limit},
    )
    return [Hit(*row) for row in rows]
