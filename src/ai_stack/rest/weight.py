"""What a JSON body would weigh once it is read: a few bytes of it can unfold to hundreds.

An empty list is three bytes in a body and 64 in memory, so a body that fits its limit may
not fit the process. The values are counted before any of them is made.
"""

import asyncio
from collections.abc import Iterator

import numpy as np

from ai_stack.errors import TooLarge

HEAVIEST = 64 << 20
PLAIN, LIST, OBJECT = 64, 80, 200  # bytes of a number or string, of a list, of an object
SLICE = 1 << 20
WEIGHTS = np.zeros(256, np.int64)
WEIGHTS[[ord(","), ord("["), ord("{")]] = PLAIN, LIST, OBJECT


def is_small(body: bytes) -> bool:
    """Whether a body cannot weigh too much, whatever it says."""
    return len(body) * OBJECT <= HEAVIEST


async def check_weight(body: bytes) -> None:
    """Raise TooLarge for a body whose values would take more than HEAVIEST bytes."""
    if is_small(body):
        return
    if PLAIN * body.count(b",") + LIST * body.count(b"[") + OBJECT * body.count(b"{") <= HEAVIEST:
        return
    weight = 0
    for part in _weights(body):
        weight += part
        if weight > HEAVIEST:
            raise TooLarge("This JSON has too many values; send it in several requests.")
        await asyncio.sleep(0)


def _weights(body: bytes) -> Iterator[int]:
    """The weight of one slice after the other, without what stands in strings."""
    carried, quoted = b"", False
    for start in range(0, len(body), SLICE):
        text = (carried + body[start : start + SLICE]).replace(rb"\\", b"  ")
        carried = b"\\" if text.endswith(b"\\") else b""
        signs = np.frombuffer(text.replace(rb"\"", b"  "), np.uint8)
        inside = (np.cumsum(signs == ord('"'), dtype=np.int32) + quoted) % 2 == 1
        quoted = bool(inside[-1])
        yield int(WEIGHTS[signs[~inside]].sum())
