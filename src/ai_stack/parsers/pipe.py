"""The frames between the pool and a worker: a JSON header and a raw body."""

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

NO_MEMORY = "Reading this file takes more memory than the stack allows."
FRAME = struct.Struct("<II")


def encode(header: Mapping[str, object], body: bytes = b"") -> bytes:
    encoded = json.dumps(header).encode()
    return FRAME.pack(len(encoded), len(body)) + encoded + body


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """One frame; None at the end of the stream."""
    sizes = stream.read(FRAME.size)
    if len(sizes) < FRAME.size:
        return None
    header_size, body_size = FRAME.unpack(sizes)
    header: dict[str, Any] = json.loads(stream.read(header_size))
    return header, stream.read(body_size)
