"""Numbers as PostgreSQL's binary arrays, without a Python object for each."""

import struct

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import TupleRow

FLOAT4, FLOAT4_ARRAY = 700, 1021
ELEMENT = np.dtype([("size", ">i4"), ("value", ">f4")])


class FloatsDumper(Dumper):
    """An array of any shape as a flat real[]."""

    format = Format.BINARY
    oid = FLOAT4_ARRAY

    def dump(self, obj: npt.NDArray[np.float32]) -> bytes:
        elements = np.empty(obj.size, ELEMENT)
        elements["size"], elements["value"] = 4, obj.reshape(-1)
        # dimensions, has NULLs, element type, then the length and lower bound of the one dimension
        return struct.pack(">iiIii", 1, 0, FLOAT4, obj.size, 1) + elements.tobytes()


def register(connection: AsyncConnection[TupleRow]) -> None:
    connection.adapters.register_dumper(np.ndarray, FloatsDumper)
