"""Breaks text into lines and finds the size at which it stays in a box; places the lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .fonts import Face
from .scene import Box, Line

Align: TypeAlias = Literal["left", "center"]
STEP = 0.94
LEAST_PT = 6.0  # below this a word is broken rather than made smaller


@dataclass(frozen=True, slots=True)
class Setting:
    """Text broken into lines at a size."""

    lines: tuple[str, ...]
    face: Face
    size: float
    leading: float = 1.0

    @property
    def line_height(self) -> float:
        return (self.face.ascent + self.face.descent) * self.size * self.leading

    @property
    def height(self) -> float:
        return self.line_height * len(self.lines)

    @property
    def width(self) -> float:
        return max((self.face.width(line) * self.size for line in self.lines), default=0.0)

    def placed(self, box: Box, fill: str, ground: str, align: Align = "left") -> Iterator[Line]:
        """Its lines from the top of a box down."""
        extra = self.line_height - (self.face.ascent + self.face.descent) * self.size
        for n, text in enumerate(self.lines):
            room = box.width - self.face.width(text) * self.size
            x = box.x + (room / 2 if align == "center" else 0)
            x += self.face.overhang(text) * self.size
            top = box.y + n * self.line_height + extra / 2
            yield Line(
                text, x, top + self.face.ascent * self.size, self.face, self.size, fill, ground, box
            )


def set_text(
    text: str, face: Face, size: float, width: float, *, leading: float = 1.0, whole: bool = False
) -> Setting:
    """Text at a size, in lines no wider than `width`; a word that is wider is broken, or with
    `whole` the size goes down until the widest word fits."""
    if whole:
        widest = max((face.width(word) for word in text.split()), default=0.0)
        size = max(min(size, width / widest * 0.999), min(size, LEAST_PT)) if widest else size
    lines = [line for part in text.split("\n") for line in _lines(part, face, size, width)]
    return Setting(tuple(lines), face, size, leading)


def largest(
    text: str, face: Face, sizes: tuple[float, float], width: float, height: float
) -> Setting | None:
    """The largest setting between two sizes that fits, with whole words; None where none does."""
    least, size = sizes
    while size >= least:
        found = set_text(text, face, size, width, whole=True)
        if found.size >= least and found.height <= height and found.width <= width:
            return found
        size *= STEP
    return None


def _lines(text: str, face: Face, size: float, width: float) -> Iterator[str]:
    line = ""
    for word in _pieces(text, face, size, width):
        longer = f"{line} {word}".strip()
        if line and face.width(longer) * size > width:
            yield line
            line = word
        else:
            line = longer
    if line:
        yield line


def _pieces(text: str, face: Face, size: float, width: float) -> Iterator[str]:
    """Words, those that are too wide in parts."""
    for word in text.split():
        rest = word
        while len(rest) > 1 and face.width(rest) * size > width:
            end = len(rest) - 1
            while end > 1 and face.width(rest[:end]) * size > width:
                end -= 1
            yield rest[:end]
            rest = rest[end:]
        yield rest
