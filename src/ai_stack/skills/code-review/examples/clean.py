"""A file with nothing wrong in it."""

from collections.abc import Iterable


def total(prices: Iterable[int], discount: int = 0) -> int:
    """What a basket costs, in cents."""
    return max(0, sum(prices) - discount)
