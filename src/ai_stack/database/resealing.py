"""Rows that are to be sealed with another key, or with none: found and rewritten in batches.

What a unit of work rewrites has the form that its project's new rows have at that moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ai_stack.database import Record, Transaction, sealing
from ai_stack.database.documents import SIZE, seal

ROWS, BYTES = 200, 8 << 20
START = UUID(int=0)
DIFFERS = "substring({0}.sealed FROM 1 FOR 4) IS DISTINCT FROM %(prefix)s::bytea"
DOCUMENT, CHUNK = DIFFERS.format("d"), DIFFERS.format("c")
EITHER = f"({DOCUMENT} OR EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id AND {CHUNK}))"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows of a kind there are, and how many are not in the form that they should be."""

    all: int
    other: int


async def tally(tx: Transaction) -> dict[str, Tally]:
    """What the project keeps, by kind."""
    sources = {"documents": "documents", "passages": "chunks"}
    sources |= {"files": "run_blobs", "responses": "responses"}
    found = {}
    for kind, table in sources.items():
        sql = f"SELECT count(*), count(*) FILTER (WHERE {DIFFERS.format('t')}) FROM {table} t"
        row = await tx.row(sql, _wanted(tx))
        assert row is not None
        found[kind] = Tally(*row)
    return found


async def documents(tx: Transaction, after: UUID) -> tuple[UUID | None, int]:
    """Rewrite the next documents with their passages; the last of them, and how many."""
    rows = await tx.rows(
        f"SELECT d.id, {SIZE} FROM documents d WHERE d.id > %(after)s AND {EITHER}"
        " ORDER BY d.id LIMIT %(rows)s",
        {**_wanted(tx), "after": after, "rows": ROWS},
    )
    ids = _fitting([(row[0], row[1]) for row in rows])
    if not ids:
        return None, 0
    await _documents(tx, ids)
    await _passages(tx, ids)
    return ids[-1], len(ids)


async def _documents(tx: Transaction, ids: Sequence[UUID]) -> None:
    """In the order in which writers lock them; those that were rewritten meanwhile stay."""
    rows = await tx.rows(
        "SELECT d.id, d.content, d.sealed FROM documents d WHERE d.id = ANY (%(ids)s)"
        " ORDER BY d.id FOR UPDATE",
        {"ids": list(ids)},
    )
    rows = [row for row in rows if _differs(tx, row[2])]
    keys, key = await sealing.opener(tx, (row[2] for row in rows)), await sealing.sealer(tx)
    texts = [keys.text(sealing.document(id), value, plain) for id, plain, value in rows]
    await tx.execute(
        "UPDATE documents d SET content = n.content, sealed = n.sealed FROM"
        " unnest(%(ids)s::uuid[], %(contents)s::text[], %(sealed)s::bytea[])"
        " AS n(id, content, sealed) WHERE d.id = n.id",
        {
            "ids": [row[0] for row in rows],
            "contents": texts if key is None else [""] * len(texts),
            "sealed": [seal(key, row[0], text) for row, text in zip(rows, texts, strict=True)],
        },
    )


async def _passages(tx: Transaction, ids: Sequence[UUID]) -> None:
    rows = await tx.rows(
        "SELECT c.id, c.heading, c.text, c.sealed FROM chunks c"
        f" WHERE c.document_id = ANY (%(ids)s) AND {CHUNK}",
        {**_wanted(tx), "ids": list(ids)},
    )
    keys, key = await sealing.opener(tx, (row[3] for row in rows)), await sealing.sealer(tx)
    opened = [(row[0], *keys.passage(row[0], row[3], row[1], row[2])) for row in rows]
    await tx.execute(
        "UPDATE chunks c SET heading = n.heading, text = n.text, sealed = n.sealed,"
        " words = CASE WHEN n.sealed IS NULL THEN passage_words(n.heading, n.text, false)"
        " ELSE strip(c.words) END FROM unnest(%(ids)s::uuid[], %(headings)s::text[],"
        " %(texts)s::text[], %(sealed)s::bytea[]) AS n(id, heading, text, sealed)"
        " WHERE c.id = n.id",
        {
            "ids": [id for id, _, _ in opened],
            "headings": [heading if key is None else "" for _, heading, _ in opened],
            "texts": [text if key is None else "" for _, _, text in opened],
            "sealed": [
                None if key is None else sealing.seal_passage(key, id, heading, text)
                for id, heading, text in opened
            ],
        },
    )


async def files(tx: Transaction) -> int:
    """Rewrite some pieces of files; how many."""
    rows = await tx.rows(
        f"SELECT b.run_id, b.number, b.part, b.data, b.sealed FROM run_blobs b"
        f" WHERE {DIFFERS.format('b')} LIMIT 8 FOR UPDATE SKIP LOCKED",
        _wanted(tx),
    )
    keys, key = await sealing.opener(tx, (row[4] for row in rows)), await sealing.sealer(tx)
    for run_id, number, part, data, sealed in rows:
        place = sealing.blob(run_id, number, part)
        opened = bytes(data) if sealed is None else keys.opened(place, sealed)
        await tx.execute(
            "UPDATE run_blobs SET data = %(data)s, sealed = %(sealed)s"
            " WHERE run_id = %(run)s AND number = %(number)s AND part = %(part)s",
            {
                "data": opened if key is None else b"",
                "sealed": None if key is None else key.seal(place, opened),
                "run": run_id,
                "number": number,
                "part": part,
            },
        )
    return len(rows)


async def responses(tx: Transaction) -> int:
    """Rewrite some stored responses; how many."""
    rows = await tx.rows(
        "SELECT r.id, r.input::text, r.response::text, r.sealed FROM responses r"
        f" WHERE {DIFFERS.format('r')} LIMIT 50 FOR UPDATE SKIP LOCKED",
        _wanted(tx),
    )
    keys, key = await sealing.opener(tx, (row[3] for row in rows)), await sealing.sealer(tx)
    for row in rows:
        await _response(tx, row, keys, key)
    return len(rows)


async def _response(
    tx: Transaction, row: Record, keys: sealing.Opener, key: sealing.Key | None
) -> None:
    id, input, response, sealed = row
    if sealed is not None:
        input, response = keys.response(id, sealed)
    anew = (
        None if key is None else sealing.seal_response(key, id, input.encode(), response.encode())
    )
    await tx.execute(
        "UPDATE responses SET input = %(input)s::jsonb, response = %(response)s::jsonb,"
        " sealed = %(sealed)s WHERE id = %(id)s",
        {
            "id": id,
            "input": input if anew is None else "[]",
            "response": response if anew is None else "{}",
            "sealed": anew,
        },
    )


async def under_way(tx: Transaction) -> set[str]:
    """The units of work of all processes that have begun and not ended."""
    rows = await tx.rows(
        "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'virtualxid'"
        " AND mode = 'ExclusiveLock' AND pid <> pg_backend_pid()"
    )
    return {row[0] for row in rows}


def _wanted(tx: Transaction) -> dict[str, object]:
    return {"prefix": sealing.prefix(tx.sealing)}


def _differs(tx: Transaction, sealed: bytes | None) -> bool:
    return (None if sealed is None else bytes(sealed[:4])) != sealing.prefix(tx.sealing)


def _fitting(found: Sequence[tuple[UUID, int]]) -> list[UUID]:
    """The first of these that together have BYTES, one of them in any case."""
    ids: list[UUID] = []
    room = BYTES
    for id, size_bytes in found:
        room -= size_bytes
        if ids and room < 0:
            break
        ids.append(id)
    return ids
