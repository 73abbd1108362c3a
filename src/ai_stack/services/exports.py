"""Exports: all documents as lines of JSON, and the way back from a line to a document."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import orjson

from ai_stack.database import Database
from ai_stack.database import exports as rows
from ai_stack.database.exports import Exported
from ai_stack.errors import InvalidRequest
from ai_stack.models.documents import NewDocument
from ai_stack.models.filters import Filter
from ai_stack.models.principals import Principal, Scope

T = TypeVar("T")

PAGE = 500
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Exports:
    database: Database

    async def lines(
        self, principal: Principal, filter: Filter | None = None
    ) -> AsyncIterator[bytes]:
        """Documents in the order of their making, a JSON object a line, in pieces of a mebibyte.

        A line is `{"id", "content", "metadata", "created_at", "updated_at"}`, with `vector`
        where the document was given one. Nothing is read before it is asked for.
        """
        principal.require(Scope.READ)
        after: UUID | None = None
        while True:
            async with self.database.transaction(principal.project_id) as tx:
                page = await rows.sizes(tx, after=after, limit=PAGE, filter=filter)
            for ids in _groups(page):
                async with self.database.transaction(principal.project_id) as tx:
                    found = await rows.fetch(tx, ids)
                if found:
                    yield b"".join(_line(document) for document in found)
            if len(page) < PAGE:
                return
            after = page[-1][0]


def _groups(sizes: Sequence[tuple[UUID, int]]) -> list[list[UUID]]:
    """Neighbours that together have about CHUNK_BYTES."""
    groups: list[list[UUID]] = []
    room = 0
    for id, size in sizes:
        if size > room:
            groups.append([])
            room = CHUNK_BYTES
        groups[-1].append(id)
        room -= size
    return groups


def _line(document: Exported) -> bytes:
    line: dict[str, object] = {
        "id": document.id,
        "content": document.content,
        "metadata": orjson.Fragment(document.metadata),
        "created_at": document.created_at,
        "updated_at": document.updated_at,
    }
    if document.vector is not None:
        line["vector"] = orjson.Fragment(document.vector)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def is_line(line: bytes) -> bool:
    """Whether a line is one of an export."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    wanted = {"id", "content", "metadata", "created_at", "updated_at"}
    return isinstance(value, dict) and wanted <= value.keys()


def from_line(line: bytes) -> NewDocument:
    """The document of an export's line; InvalidRequest when it is none."""
    try:
        value = orjson.loads(line)
        return NewDocument(
            content=_typed(value["content"], str),
            metadata=_typed(value["metadata"], dict),
            key=_typed(value["id"], str),
            vector=_vector(value),
            created_at=_time(value["created_at"]),
            updated_at=_time(value["updated_at"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest("It is not a line of an export.") from error


def _vector(value: Mapping[str, object]) -> list[float] | None:
    if value.get("vector") is None:
        return None
    return [_number(n) for n in _typed(value["vector"], list)]


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no time zone")
    return time.astimezone(UTC)  # OverflowError outside the years 1 to 9999, which PostgreSQL has


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError
    return value
