"""Palettes, and contrast by WCAG 2.2 (relative luminance, success criterion 1.4.3)."""

from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field

Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
PaletteName: TypeAlias = Literal[
    "ink", "harbour", "forest", "clay", "plum", "slate", "night", "signal"
]
NORMAL, LARGE = 4.5, 3.0
LARGE_PT, LARGE_BOLD_PT = 18.0, 14.0


class Palette(BaseModel):
    """Six colours by what they are for."""

    model_config = ConfigDict(extra="forbid")
    ground: Annotated[Colour, Field(description="Behind all.")]
    surface: Annotated[Colour, Field(description="Behind boxes.")]
    ink: Annotated[Colour, Field(description="Of text.")]
    muted: Annotated[Colour, Field(description="Of lesser text, and of lines.")]
    accent: Annotated[Colour, Field(description="Of what shall be seen first.")]
    on_accent: Annotated[Colour, Field(description="Of text on the accent.")]


def _palette(colours: str) -> Palette:
    names = Palette.model_fields
    return Palette(**dict(zip(names, (f"#{c}" for c in colours.split()), strict=True)))


PALETTES: dict[PaletteName, Palette] = {
    "ink": _palette("ffffff f1f1ef 16161a 55555c 16161a ffffff"),
    "harbour": _palette("f4f8fb dfeaf2 0e2a3f 46607a 0b5c8c ffffff"),
    "forest": _palette("f5f8f2 e2ecda 17301f 4b6250 2c6b3f ffffff"),
    "clay": _palette("fdf6f0 f5e3d5 3a1d12 775140 a8441f ffffff"),
    "plum": _palette("fbf5fa f0e0ed 2f1030 6c4a6b 7a2573 ffffff"),
    "slate": _palette("f6f7f9 e5e8ed 1d2430 556072 37475f ffffff"),
    "night": _palette("10141f 1d2435 f2f4fa aab4cb f0b429 191204"),
    "signal": _palette("fffdf2 fff1b8 1a1a1a 5a5431 c81d25 ffffff"),
}
assert set(PALETTES) == set(get_args(PaletteName))


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, 0 for black to 1 for white."""
    parts = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1, the same, to 21, black on white."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def needed(size_pt: float, bold: bool) -> float:
    """The ratio that a text of this size needs (AA)."""
    return LARGE if size_pt >= (LARGE_BOLD_PT if bold else LARGE_PT) else NORMAL


def legible(colour: str, ground: str, ratio: float) -> str:
    """The colour, moved towards black or white just as far as it takes on this ground."""
    if contrast(colour, ground) >= ratio:
        return colour
    end = max(("#000000", "#ffffff"), key=lambda c: contrast(c, ground))
    steps = (mixed(colour, end, n / 20) for n in range(1, 21))
    return next((c for c in steps if contrast(c, ground) >= ratio), end)


def mixed(one: str, other: str, part: float) -> str:
    """A colour between two, `part` of the way."""
    pairs = ((int(one[n : n + 2], 16), int(other[n : n + 2], 16)) for n in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in pairs)
