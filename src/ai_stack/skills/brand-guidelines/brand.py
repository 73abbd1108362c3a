"""A brand, and what comes of applying it: changes and violations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ai_stack.skill import JSON

from .colors import LEAST, LEAST_LARGE, Color, contrast, hex_of, nearest

MAX_TOLD = 500
FONT = r"^[A-Za-z][\w .-]{0,59}$"
GENERIC = {
    "serif",
    "sans-serif",
    "monospace",
    "system-ui",
    "cursive",
    "fantasy",
    "inherit",
    "initial",
}
GENERIC |= {"ui-monospace", "ui-serif", "ui-sans-serif", "unset", "revert", "emoji", "math"}
CODE = ("mono", "courier", "consolas", "menlo", "code", "symbol", "wingdings")


class Brand(BaseModel):
    """Colours by name, `background` and `text` among them, and two fonts."""

    model_config = ConfigDict(extra="forbid")

    colors: Annotated[dict[str, Color], Field(min_length=2, max_length=40)]
    heading_font: Annotated[str, Field(pattern=FONT)]
    body_font: Annotated[str, Field(pattern=FONT)]

    @model_validator(mode="after")
    def _readable(self) -> "Brand":
        if missing := {"background", "text"} - set(self.colors):
            raise ValueError(f"colors lack {', '.join(sorted(missing))}")
        if contrast(self.colors["text"], self.colors["background"]) < LEAST:
            raise ValueError("text on background has a contrast under 4.5")
        return self

    @property
    def heading(self) -> str:
        """The colour of headings."""
        return self.colors.get("heading", self.colors.get("primary", self.colors["text"]))


@dataclass(slots=True)
class Report:
    """What was found in one file; with `mapping` also what becomes of each colour."""

    brand: Brand
    mapping: Mapping[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    violations: list[dict[str, JSON]] = field(default_factory=list)
    count: int = 0
    changes: int = 0

    def color(self, color: str, where: str, on: str | None = None, large: bool = False) -> str:
        """The brand's colour for one of the file; on a background, one that can be read there."""
        palette = set(self.brand.colors.values())
        new = self.becomes(color, on, large=large)
        if color not in palette:
            self._add("color", where, color, nearest(color, palette))
        if new != color:
            self.changed[color] = new
            self.changes += 1
        return new

    def becomes(self, color: str, on: str | None = None, *, large: bool = False) -> str:
        """As `color`, without a note of it."""
        palette = set(self.brand.colors.values())
        new = color if color in palette else self._mapped(color) or nearest(color, palette)
        if on is not None and contrast(new, on) < (LEAST_LARGE if large else LEAST):
            readable = {c for c in palette if contrast(c, on) >= LEAST}
            return nearest(color, readable) if readable else new
        return new

    def contrast(self, text: str, background: str, where: str, *, large: bool = False) -> None:
        """Note text that cannot be read on its background."""
        ratio, least = contrast(text, background), LEAST_LARGE if large else LEAST
        if ratio < least:
            found = f"{text} on {background} is {ratio:.2f}"
            self._add("contrast", where, found, f"at least {least}")

    def font(self, name: str, where: str, *, heading: bool = False) -> str:
        """The brand's font for one of the file; code and generic names stay."""
        plain = name.strip().strip("'\"")
        known = (self.brand.heading_font.lower(), self.brand.body_font.lower())
        if stays(plain) or plain.lower() in known:
            return name
        new = self.brand.heading_font if heading else self.brand.body_font
        self._add("font", where, plain, new)
        self.changed[plain] = new
        self.changes += 1
        return new

    def _mapped(self, color: str) -> str | None:
        target = self.mapping.get(color)
        return self.brand.colors[target] if target else None

    def _add(self, kind: str, where: str, found: str, wanted: str) -> None:
        self.count += 1
        if len(self.violations) < MAX_TOLD:
            self.violations.append({"kind": kind, "where": where, "found": found, "wanted": wanted})


def stays(font: str) -> bool:
    """Whether a font is left alone: generic, of the theme, or for code."""
    plain = font.lower()
    is_theme = plain.startswith(("+", "var("))
    return not plain or plain in GENERIC or is_theme or any(word in plain for word in CODE)


def normal(mapping: Mapping[str, str]) -> dict[str, str]:
    """A caller's mapping with its colours written alike; ValueError."""
    return {hex_of(color): name for color, name in mapping.items()}
