"""Numbers, ids and texts as PostgreSQL's binary arrays, which neither side has to parse."""

import struct
from collections.abc import Iterable, Sequence
from uuid import UUID

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import TupleRow

FLOAT4, FLOAT4_ARRAY = 700, 1021
UUID_TYPE, UUID_ARRAY = 2950, 2951
TEXT, TEXT_ARRAY = 25, 1009
ELEMENT = np.dtype([("size", ">i4"), ("value", ">f4")])


class FloatsDumper(Dumper):
    """An array of any shape as a flat real[]."""

    format = Format.BINARY
    oid = FLOAT4_ARRAY

    def dump(self, obj: npt.NDArray[np.float32]) -> bytes:
        elements = np.empty(obj.size, ELEMENT)
        elements["size"], elements["value"] = 4, obj.reshape(-1)
        return _head(FLOAT4, obj.size) + elements.tobytes()


class Ids(tuple[UUID, ...]):
    """Ids to be sent as uuid[]."""

    __slots__ = ()


class Texts(tuple[str, ...]):
    """Texts to be sent as text[]."""

    __slots__ = ()


class IdsDumper(Dumper):
    """Ids as uuid[]."""

    format = Format.BINARY
    oid = UUID_ARRAY

    def dump(self, obj: Sequence[UUID]) -> bytes:
        return _array(UUID_TYPE, [id.bytes for id in obj])


class TextsDumper(Dumper):
    """Texts as text[]."""

    format = Format.BINARY
    oid = TEXT_ARRAY

    def dump(self, obj: Sequence[str]) -> bytes:
        return _array(TEXT, [text.encode() for text in obj])


def _array(element: int, values: Sequence[bytes]) -> bytes:
    parts: Iterable[bytes] = (struct.pack(">i", len(v)) + v for v in values)
    return _head(element, len(values)) + b"".join(parts)


def _head(element: int, length: int) -> bytes:
    # dimensions, has NULLs, element type, then the length and lower bound of the one dimension
    return struct.pack(">iiIii", 1, 0, element, length, 1)


def register(connection: AsyncConnection[TupleRow]) -> None:
    connection.adapters.register_dumper(np.ndarray, FloatsDumper)
    connection.adapters.register_dumper(Ids, IdsDumper)
    connection.adapters.register_dumper(Texts, TextsDumper)
