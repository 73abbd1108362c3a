"""Prices, in cents."""

TAX = 19


def gross(net: int) -> int:
    """A price with tax."""
    return net + net * TAX // 100


class Basket:
    """What somebody buys."""

    def __init__(self) -> None:
        self.items: list[int] = []
