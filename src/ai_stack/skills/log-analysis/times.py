"""Times as logs write them, in seconds since 1970; what cannot be one is None."""

import math
from datetime import UTC, datetime
from functools import lru_cache

EARLIEST, LATEST = 631_152_000.0, 4_102_444_800.0  # 1990 to 2100
MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}


def seconds_of(value: object) -> float | None:
    """A time of any form: ISO 8601, or a number of seconds, milli-, micro- or nanoseconds."""
    if isinstance(value, bool) or value in (None, ""):
        return None
    text = str(value)[:64]
    try:
        return sane(_scaled(float(text)))
    except ValueError:
        found = iso_seconds(text)
        return None if found is None else found[0]


@lru_cache(maxsize=1024)  # most lines have the time of the one before them
def iso_seconds(text: str) -> tuple[float, bool] | None:
    """Seconds of an ISO 8601 time, and whether it had no zone, in which case UTC is meant."""
    normal = text.strip().replace(",", ".").replace(" UTC", "+00:00").replace(" GMT", "+00:00")
    try:
        found = datetime.fromisoformat(normal)
    except ValueError:
        return None
    bare = found.tzinfo is None
    try:
        seconds = (found.replace(tzinfo=UTC) if bare else found).timestamp()
    except (OverflowError, OSError):
        return None
    kept = sane(seconds)
    return None if kept is None else (kept, bare)


def sane(seconds: float) -> float | None:
    """The time, None for one that no log of today can have."""
    return seconds if math.isfinite(seconds) and EARLIEST <= seconds <= LATEST else None


def _scaled(number: float) -> float:
    """Seconds of a number, by its size: 2026 is 1.8e9 s, 1.8e12 ms, 1.8e15 µs, 1.8e18 ns."""
    for factor in (1.0, 1e3, 1e6, 1e9):
        if number / factor <= LATEST:
            return number / factor
    return math.inf
