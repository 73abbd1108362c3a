"""Colours as eyes see them: distance in CIELAB, contrast by WCAG."""

import re
from collections.abc import Iterable
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

RGB: TypeAlias = tuple[int, int, int]
HEX = re.compile(r"#?([0-9A-Fa-f]{6}|[0-9A-Fa-f]{3})")
LEAST, LEAST_LARGE = 4.5, 3.0


def hex_of(text: str) -> str:
    """A colour as #RRGGBB; ValueError for what is none."""
    found = HEX.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a colour as in #1B1F24")
    digits = found[1] if len(found[1]) == 6 else "".join(d * 2 for d in found[1])
    return f"#{digits.upper()}"


Color: TypeAlias = Annotated[str, AfterValidator(hex_of)]


def rgb(color: str) -> RGB:
    """The parts of a colour, 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def from_rgb(parts: Iterable[float]) -> str:
    """A colour of parts from 0 to 1."""
    return "#" + "".join(f"{round(min(1.0, max(0.0, p)) * 255):02X}" for p in parts)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG 2, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def nearest(color: str, among: Iterable[str]) -> str:
    """The colour among some that looks most like one."""
    return min(among, key=lambda other: _distance(color, other))


def _distance(one: str, other: str) -> float:
    pairs = zip(_lab(one), _lab(other), strict=True)
    return sum((a - b) ** 2 for a, b in pairs)


def _linear(color: str) -> tuple[float, float, float]:
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in rgb(color))
    )
    return red, green, blue


def _luminance(color: str) -> float:
    red, green, blue = _linear(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _lab(color: str) -> tuple[float, float, float]:
    red, green, blue = _linear(color)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
