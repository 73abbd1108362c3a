"""Contrast by WCAG 2.2, and colours moved until they have enough of it."""

NEEDED = 4.5


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb."""
    parts = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(one: str, other: str, part: float) -> str:
    """A colour between two, `part` of the way."""
    pairs = ((int(one[n : n + 2], 16), int(other[n : n + 2], 16)) for n in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in pairs)


def legible(colour: str, grounds: tuple[str, ...], needed: float = NEEDED) -> str:
    """The colour, moved to black or white as far as it takes on every one of the grounds."""
    if _least(colour, grounds) >= needed:
        return colour
    end = max(("#000000", "#ffffff"), key=lambda c: _least(c, grounds))
    steps = (mixed(colour, end, n / 25) for n in range(1, 26))
    return next((c for c in steps if _least(c, grounds) >= needed), end)


def _least(colour: str, grounds: tuple[str, ...]) -> float:
    return min(contrast(colour, ground) for ground in grounds)
