"""Responses that clients asked to be stored, as rows of a project."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from ai_stack.database import Database, Record, Transaction, sealing

OF = "FROM responses WHERE id = %(id)s"
SIZE = (
    "coalesce(octet_length(sealed),"
    " octet_length(input::text) + octet_length((response->'output')::text))"
)

# The chain behind a response, newest first as far as both bounds are kept, and one beyond.
CHAIN = f"""
WITH RECURSIVE sized AS NOT MATERIALIZED (SELECT *, {SIZE} AS size FROM responses),
chain AS (
  SELECT id, previous, 1 AS depth, size FROM sized WHERE id = %(id)s
  UNION ALL
  SELECT s.id, s.previous, c.depth + 1, c.size + s.size
  FROM chain c JOIN sized s ON s.id = c.previous
  WHERE c.depth <= %(depth)s AND c.size <= %(size_bytes)s
)
SELECT r.id, r.previous, r.input, r.response->'output', c.depth, c.size, r.sealed
FROM chain c JOIN responses r ON r.id = c.id ORDER BY c.depth DESC"""


@dataclass(frozen=True, slots=True)
class Link:
    """One response of a chain; `depth` and `size_bytes` count from the newest to this one."""

    id: str
    previous: str | None
    input: Sequence[Mapping[str, Any]]
    output: Sequence[Mapping[str, Any]]
    depth: int
    size_bytes: int


async def insert(
    tx: Transaction, id: str, previous: str | None, input: bytes, response: bytes
) -> None:
    """Store a response; input and response are JSON."""
    key, sealed = await sealing.sealer(tx), None
    if key is not None:
        sealed = sealing.seal_response(key, id, input, response)
        input, response = b"[]", b"{}"
    await tx.execute(
        "INSERT INTO responses (id, previous, input, response, sealed)"
        " VALUES (%(id)s, %(previous)s, %(input)s::jsonb, %(response)s::jsonb, %(sealed)s)",
        {
            "id": id,
            "previous": previous,
            "input": input.decode(),
            "response": response.decode(),
            "sealed": sealed,
        },
    )


async def find(database: Database, project_id: UUID, id: str) -> dict[str, Any] | None:
    """The Response object of an id."""
    found = await _stored(database, project_id, "response", id)
    return None if found is None else dict(found)


async def find_input(database: Database, project_id: UUID, id: str) -> list[dict[str, Any]] | None:
    """The items that the request of a response brought."""
    found = await _stored(database, project_id, "input", id)
    return None if found is None else list(found)


async def _stored(database: Database, project_id: UUID, part: str, id: str) -> Any:
    """The `input` or the `response` of an id, None where there is none."""
    rows = await database.read(project_id, f"SELECT {part}, sealed {OF}", {"id": id})
    if not rows or rows[0][1] is None:
        return rows[0][0] if rows else None
    keys = await _opener(database, project_id, [rows[0][1]])
    return keys.json(sealing.response(id), rows[0][1])[part]


async def _opener(
    database: Database, project_id: UUID, sealed: Sequence[bytes | None]
) -> sealing.Opener:
    return await sealing.opener_of(partial(database.read, project_id), database.keyring, sealed)


async def delete(tx: Transaction, id: str) -> bool:
    """Forget a response; whether it was there."""
    done = await tx.execute("DELETE FROM responses WHERE id = %(id)s", {"id": id})
    return done.rowcount == 1


async def chain(
    database: Database, project_id: UUID, id: str, *, depth: int, size_bytes: int
) -> list[Link]:
    """A response and those before it, oldest first; the first may be one beyond the bounds."""
    bounds = {"depth": depth, "size_bytes": size_bytes}
    rows = await database.read(project_id, CHAIN, {"id": id, **bounds})
    keys = await _opener(database, project_id, [row[6] for row in rows])
    return [_link(row, keys) for row in rows]


def _link(row: Record, keys: sealing.Opener) -> Link:
    id, previous, input, output, depth, size_bytes, sealed = row
    if sealed is not None:
        opened = keys.json(sealing.response(id), sealed)
        input, output = opened["input"], opened["response"]["output"]
    return Link(id, previous, input, output, depth, size_bytes)


async def sweep(tx: Transaction, older: timedelta) -> int:
    """Forget the responses of every project that are older; how many there were."""
    row = await tx.row("SELECT sweep_responses(%(older)s)", {"older": older})
    return 0 if row is None else int(row[0])
