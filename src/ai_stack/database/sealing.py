"""Sealed values of a project's rows: found with their keys, opened when read, sealed when written.

It knows rows and places, no cryptography: keys come from a Keyring.
"""

import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import orjson

from ai_stack.errors import StackError

NUMBER = struct.Struct(">i")  # before each envelope: the id of the key that it was sealed with
NO_KEYS = "There are sealed rows here, and this process has no keys to open them with."

Rows: TypeAlias = Callable[[str, dict[str, object]], Awaitable[Sequence[Any]]]


class Key(Protocol):
    """One data key; a place is `table|row|column`."""

    def seal(self, place: str, plaintext: bytes) -> bytes:
        """The plaintext in an envelope that opens at this place alone, behind the key's id."""

    def open(self, place: str, sealed: bytes) -> bytes:
        """The plaintext of an envelope; raises StackError for one that is not of this place."""


class Keyring(Protocol):
    """Data keys by their ids, unwrapped."""

    def known(self, id: int) -> Key | None:
        """A key that was admitted before."""

    def admit(self, id: int, master: str, wrapped: bytes) -> Key:
        """Unwrap a key; raises StackError where its master is missing."""


class Unit(Protocol):
    """The part of a unit of work that this needs."""

    @property
    def keyring(self) -> Keyring | None: ...

    @property
    def sealing(self) -> int | None: ...

    async def rows(self, sql: str, parameters: Any = None) -> Sequence[Any]: ...


async def sealer(tx: Unit) -> Key | None:
    """The key for what this unit of work writes; None in a project that is not sealed."""
    if tx.sealing is None:
        return None
    return (await _keys(tx.rows, tx.keyring, {tx.sealing}))[tx.sealing]


async def are_any(tx: Unit, ids: Sequence[object]) -> bool:
    """Whether any of these documents is sealed."""
    sql = "SELECT EXISTS (SELECT FROM documents WHERE id = ANY (%(ids)s) AND sealed IS NOT NULL)"
    return bool((await tx.rows(sql, {"ids": ids}))[0][0])


async def opener(tx: Unit, sealed: Iterable[bytes | None]) -> "Opener":
    """What opens these values of this project."""
    return await opener_of(tx.rows, tx.keyring, sealed)


async def opener_of(
    rows: Rows, keyring: Keyring | None, sealed: Iterable[bytes | None]
) -> "Opener":
    """What opens these values; `rows` reads in their project."""
    wanted = {key_id(value) for value in sealed if value is not None}
    return Opener(await _keys(rows, keyring, wanted)) if wanted else NOTHING


async def _keys(rows: Rows, keyring: Keyring | None, wanted: set[int]) -> dict[int, Key]:
    if keyring is None:
        raise StackError(NO_KEYS)
    found = {id: key for id in wanted if (key := keyring.known(id)) is not None}
    missing = [id for id in wanted if id not in found]
    if missing:
        sql = "SELECT id, master, wrapped FROM data_keys WHERE id = ANY (%(ids)s)"
        for id, master, wrapped in await rows(sql, {"ids": missing}):
            found[id] = keyring.admit(id, master, bytes(wrapped))
    if len(found) < len(wanted):
        raise StackError("A data key of this project is gone: restore the database from a backup.")
    return found


def key_id(sealed: bytes) -> int:
    return int(NUMBER.unpack_from(sealed)[0])


def prefix(id: int | None) -> bytes | None:
    """What every value begins with that a key has sealed; None for what is in the clear."""
    return None if id is None else NUMBER.pack(id)


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens values with the keys that it has; what is not sealed is None."""

    keys: Mapping[int, Key] = field(default_factory=dict)

    def opened(self, place: str, sealed: bytes) -> bytes:
        sealed = memoryview(sealed).tobytes()
        return self.keys[key_id(sealed)].open(place, sealed)

    def text(self, place: str, sealed: bytes | None, plain: str) -> str:
        """The text that was sealed, or the plain one where nothing was."""
        return plain if sealed is None else self.opened(place, sealed).decode()

    def passage(self, id: object, sealed: bytes | None, heading: str, text: str) -> tuple[str, str]:
        """(heading, text) of a passage, the given ones where it is not sealed."""
        if sealed is None:
            return heading, text
        opened = self.json(chunk(id), sealed)
        return opened[0], opened[1]

    def response(self, id: str, sealed: bytes) -> tuple[str, str]:
        """(input, response) of a stored response, both JSON."""
        opened = self.json(response(id), sealed)
        return orjson.dumps(opened["input"]).decode(), orjson.dumps(opened["response"]).decode()

    def json(self, place: str, sealed: bytes) -> Any:
        return orjson.loads(self.opened(place, sealed))


NOTHING = Opener()


def document(id: object) -> str:
    """Where the content of a document lies."""
    return f"documents|{id}|content"


def chunk(id: object) -> str:
    """Where heading and text of a passage lie."""
    return f"chunks|{id}|text"


def blob(run_id: object, number: int, part: int) -> str:
    """Where a piece of a file lies."""
    return f"run_blobs|{run_id}/{number}/{part}|data"


def response(id: str) -> str:
    """Where input and response of a stored response lie."""
    return f"responses|{id}|response"


def seal_passage(key: Key, id: object, heading: str, text: str) -> bytes:
    return key.seal(chunk(id), orjson.dumps([heading, text]))


def seal_response(key: Key, id: str, input: bytes, answered: bytes) -> bytes:
    """Both are JSON."""
    return key.seal(response(id), b'{"input":%b,"response":%b}' % (input, answered))
