"""DuckDB's values as JSON has them: numbers stay numbers, the rest becomes text."""

import math
from collections.abc import Mapping
from decimal import Decimal

from ai_stack.skill import JSON

LONGEST_TEXT = 10_000
MOST_ITEMS = 1_000
LARGEST_EXACT = 1 << 53


def plain(value: object) -> JSON:
    """A value of a row; what JSON cannot hold exactly is text, what is no number is None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST_EXACT else str(value)
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[:LONGEST_TEXT]).hex()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value[:MOST_ITEMS]]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in [*value.items()][:MOST_ITEMS]}
    return str(value)[:LONGEST_TEXT]


def number(value: object) -> float | None:
    """A value as a number, None where it is none."""
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None
