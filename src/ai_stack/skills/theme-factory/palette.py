"""A theme: eight colours whose pairs can be read, and two fonts."""

import colorsys
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

HEX = re.compile(r"#?([0-9A-Fa-f]{6})")
FONT = r"^[A-Za-z][\w .-]{0,59}$"
TEXT, EDGE = 4.5, 1.2
PAIRS = (
    *(("text", "background", TEXT), ("text", "surface", TEXT)),
    *(("muted", "background", TEXT), ("muted", "surface", TEXT)),
    *(("primary", "background", TEXT), ("accent", "background", TEXT)),
    *(("on_primary", "primary", TEXT), ("border", "background", EDGE)),
)


def hex_of(text: str) -> str:
    """A colour as #RRGGBB; ValueError for what is none."""
    found = HEX.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a colour as in #1B1F24")
    return f"#{found[1].upper()}"


Color = Annotated[str, AfterValidator(hex_of)]


class Colors(BaseModel):
    """The eight colours of a theme."""

    model_config = ConfigDict(extra="forbid")

    background: Color
    surface: Color
    text: Color
    muted: Color
    primary: Color
    on_primary: Color
    accent: Color
    border: Color


class Theme(BaseModel):
    """Colours and fonts by what they are for."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]
    about: Annotated[str, Field(max_length=200)] = ""
    colors: Colors
    heading_font: Annotated[str, Field(pattern=FONT)]
    body_font: Annotated[str, Field(pattern=FONT)]

    @model_validator(mode="after")
    def _readable(self) -> "Theme":
        if told := [f"{a} on {b} is {r:.2f}" for a, b, r, least in self.ratios() if r < least]:
            raise ValueError(f"colours that cannot be read: {', '.join(told)}")
        return self

    @property
    def mode(self) -> Literal["light", "dark"]:
        """Whether the background is lighter than the text."""
        colors = self.colors
        return "light" if luminance(colors.background) > luminance(colors.text) else "dark"

    def ratios(self) -> Iterator[tuple[str, str, float, float]]:
        """Each pair with its contrast and the least that it may have."""
        colors = self.colors.model_dump()
        for front, back, least in PAIRS:
            yield front, back, contrast(colors[front], colors[back]), least


def derived(
    seed: str, mode: Literal["light", "dark"], given: Mapping[str, str]
) -> tuple[Colors, dict[str, str]]:
    """Colours from a seed's hue, those given kept as near as reading allows; what was moved."""
    hue, light, depth = _hls(seed)
    tint = min(depth, 0.5)
    dark = mode == "dark"
    wanted = {
        "background": _color(hue, 0.09 if dark else 0.985, tint * (0.4 if dark else 0.5)),
        "surface": _color(hue, 0.14 if dark else 0.95, tint * (0.4 if dark else 0.5)),
        "text": _color(hue, 0.93 if dark else 0.11, tint * 0.4),
        "muted": _color(hue, 0.68 if dark else 0.38, tint * 0.3),
        "primary": _color(hue, light, depth),
        "on_primary": _color(hue, 0.06 if dark else 1.0, 0.2),
        "accent": _color((hue + 0.42) % 1, 0.62 if dark else 0.4, max(depth, 0.45)),
        "border": _color(hue, 0.26 if dark else 0.84, tint * 0.4),
        **given,
    }
    colors = dict(wanted)
    for _ in range(3):  # what one pair moved, another may need to follow
        for front, back, least in PAIRS:
            colors[front] = readable(colors[front], colors[back], least)
    moved = {
        n: wanted[n] for n in colors if colors[n] != wanted[n] and (n in given or n == "primary")
    }
    return Colors(**colors), moved


def readable(color: str, back: str, least: float) -> str:
    """The colour, lighter or darker by as little as its contrast needs."""
    if contrast(color, back) >= least:
        return color
    hue, light, depth = _hls(color)
    steps = sorted((n / 400 for n in range(401)), key=lambda other: abs(other - light))
    for step in steps:
        candidate = _color(hue, step, depth)
        if contrast(candidate, back) >= least:
            return candidate
    return "#FFFFFF" if luminance(back) < 0.18 else "#000000"


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG 2, 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """How bright a colour is, 0 to 1."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in _parts(color)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _parts(color: str) -> tuple[float, float, float]:
    return int(color[1:3], 16) / 255, int(color[3:5], 16) / 255, int(color[5:7], 16) / 255


def _hls(color: str) -> tuple[float, float, float]:
    return colorsys.rgb_to_hls(*_parts(color))


def _color(hue: float, light: float, depth: float) -> str:
    parts = colorsys.hls_to_rgb(hue, min(1.0, max(0.0, light)), depth)
    return "#" + "".join(f"{round(part * 255):02X}" for part in parts)
