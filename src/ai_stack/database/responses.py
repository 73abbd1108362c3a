"""Responses that clients asked to be stored, as rows of a project."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from ai_stack.database import Database, Transaction

OF = "FROM responses WHERE id = %(id)s"
SIZE = "octet_length(input::text) + octet_length((response->'output')::text)"

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
SELECT r.id, r.previous, r.input, r.response->'output', c.depth, c.size
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
    await tx.execute(
        "INSERT INTO responses (id, previous, input, response)"
        " VALUES (%(id)s, %(previous)s, %(input)s::jsonb, %(response)s::jsonb)",
        {"id": id, "previous": previous, "input": input.decode(), "response": response.decode()},
    )


async def find(database: Database, project_id: UUID, id: str) -> dict[str, Any] | None:
    """The Response object of an id."""
    rows = await database.read(project_id, f"SELECT response {OF}", {"id": id})
    return rows[0][0] if rows else None


async def find_input(database: Database, project_id: UUID, id: str) -> list[dict[str, Any]] | None:
    """The items that the request of a response brought."""
    rows = await database.read(project_id, f"SELECT input {OF}", {"id": id})
    return rows[0][0] if rows else None


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
    return [Link(*row) for row in rows]


async def sweep(tx: Transaction, older: timedelta) -> int:
    """Forget the responses of every project that are older; how many there were."""
    row = await tx.row("SELECT sweep_responses(%(older)s)", {"older": older})
    return 0 if row is None else int(row[0])
