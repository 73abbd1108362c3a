"""Places in traces: where one begins, and what is below it (W3C Trace Context, level 1)."""

import random
import re
from collections.abc import Iterable

from ai_stack.models.traces import Place

HEADER = b"traceparent"
FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

dice = random.SystemRandom()


def began(headers: Iterable[tuple[bytes, bytes]], share: float) -> Place:
    """The place of a request: below what its client names, else the beginning of a trace.

    Of traces that begin here a `share` is sampled; what a client has sampled is, and no other.
    """
    named = [value.decode("latin-1") for name, value in headers if name == HEADER]
    found = _read(named[0]) if len(named) == 1 else None
    if found is not None:
        return below(found)
    return Place(_id(32), _id(16), None, dice.random() < share)


def below(place: Place) -> Place:
    """The place of a part of this."""
    return Place(place.trace_id, _id(16), place.span_id, place.sampled)


def _read(text: str) -> Place | None:
    """What a header says; None for one that is not to be understood."""
    parts = FORM.fullmatch(text)
    if parts is None or parts[1] == "ff" or (parts[1] == "00" and parts[5]):
        return None
    if not int(parts[2], 16) or not int(parts[3], 16):
        return None
    return Place(parts[2], parts[3], None, bool(int(parts[4], 16) & 1))


def _id(digits: int) -> str:
    return f"{dice.getrandbits(digits * 4) or 1:0{digits}x}"
