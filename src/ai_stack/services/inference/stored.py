"""Responses that are kept: read again, deleted, and followed by others through their ids."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import orjson

from ai_stack.database import Database, responses
from ai_stack.errors import InvalidRequest, NotFound
from ai_stack.models.identifiers import uuid7
from ai_stack.models.principals import Principal
from ai_stack.services.inference.dialects import refusal

DEPTH = 500
HISTORY_BYTES = 16 << 20
PAGE_LIMIT = 100
LONGEST_ID = 200
NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")  # as JSON has it, and not after a backslash

Item = Mapping[str, Any]
T = TypeVar("T")


def new_id() -> str:
    """An id for a response; they sort by the time they were made."""
    return f"resp_{uuid7().hex}"


@dataclass(frozen=True, slots=True)
class ItemPage:
    """A page of a response's input items, in the order asked for."""

    items: Sequence[Item]
    has_more: bool


@dataclass(frozen=True, slots=True)
class StoredResponses:
    """The stored responses of a project; other projects' are not found."""

    database: Database

    async def add(self, principal: Principal, input: Sequence[Item], response: Item) -> None:
        """Store a finished response with the items that its request brought.

        NUL characters, which PostgreSQL cannot hold, are replaced by U+FFFD.
        Raises InvalidRequest for what nests too deep.
        """
        previous = response.get("previous_response_id")
        encoded = _encoded(list(input)), _encoded(response)
        async with self.database.transaction(principal.project_id) as tx:
            await responses.insert(tx, response["id"], previous, *encoded)

    async def get(self, principal: Principal, id: str) -> dict[str, Any]:
        """The Response object of an id; NotFound."""
        return _found(await responses.find(self.database, principal.project_id, _checked(id)), id)

    async def delete(self, principal: Principal, id: str) -> None:
        """Forget a response; NotFound. What follows it cannot be followed any more."""
        async with self.database.transaction(principal.project_id) as tx:
            if not await responses.delete(tx, _checked(id)):
                raise _unknown(id)

    async def input_items(
        self,
        principal: Principal,
        id: str,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> ItemPage:
        """The items that the request of a response brought, from after one of them on."""
        if not 1 <= limit <= PAGE_LIMIT:
            raise refusal("limit", f"must be from 1 to {PAGE_LIMIT}")
        project = principal.project_id
        items = _found(await responses.find_input(self.database, project, _checked(id)), id)
        if order == "desc":
            items.reverse()
        rest = items[_position(items, after) :]
        return ItemPage(rest[:limit], len(rest) > limit)

    async def history(self, principal: Principal, previous_id: str) -> list[Item]:
        """The items of a response and of all before it, oldest first, each input before its output.

        Raises NotFound where one of them is not stored any more, and InvalidRequest for a
        conversation beyond DEPTH responses or HISTORY_BYTES: nothing is ever cut in silence.
        """
        bounds = {"depth": DEPTH, "size_bytes": HISTORY_BYTES}
        project, id = principal.project_id, _checked(previous_id)
        links = await responses.chain(self.database, project, id, **bounds)
        if not links:
            raise _unknown(previous_id)
        oldest = links[0]
        if oldest.depth > DEPTH or oldest.size_bytes > HISTORY_BYTES:
            raise refusal(
                "previous_response_id",
                f"the conversation behind it is longer than {DEPTH} responses or"
                f" {HISTORY_BYTES} bytes",
            )
        if oldest.previous is not None:
            raise _unknown(oldest.previous)
        return [item for link in links for item in (*link.input, *link.output)]

    async def sweep(self, age: timedelta) -> int:
        """Forget what is older, in every project; how many there were."""
        async with self.database.transaction(None) as tx:
            return await responses.sweep(tx, age)


def _encoded(value: object) -> bytes:
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("The request nests too deep to be stored.") from error
    return NUL.sub(rb"\1\\ufffd", text) if b"\\u0000" in text else text


def _checked(id: str) -> str:
    """An id that may be asked for; what cannot be one is not found."""
    if len(id) > LONGEST_ID or not id.isascii() or not id.isprintable():
        raise NotFound("There is no stored response under this id.")
    return id


def _found(value: T | None, id: str) -> T:
    if value is None:
        raise _unknown(id)
    return value


def _unknown(id: str) -> NotFound:
    return NotFound(f"There is no stored response with the id {id}.")


def _position(items: Sequence[Item], after: str | None) -> int:
    if after is None:
        return 0
    for n, item in enumerate(items):
        if item.get("id") == after:
            return n + 1
    raise refusal("after", "this response has no input item with this id")
