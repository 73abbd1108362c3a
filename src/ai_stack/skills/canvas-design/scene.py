"""A drawing before it is written: shapes and lines of text, in points from the upper left."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from .fonts import Face

Point: TypeAlias = tuple[float, float]
ROUNDING = 0.01


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def holds(self, other: "Box") -> bool:
        """Whether the other lies within, but for rounding."""
        return (
            other.x >= self.x - ROUNDING
            and other.y >= self.y - ROUNDING
            and other.right <= self.right + ROUNDING
            and other.bottom <= self.bottom + ROUNDING
        )

    def meets(self, other: "Box") -> bool:
        """Whether they have more than an edge in common."""
        return (
            self.x < other.right - ROUNDING
            and other.x < self.right - ROUNDING
            and self.y < other.bottom - ROUNDING
            and other.y < self.bottom - ROUNDING
        )


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Filled, outlined, or both."""

    box: Box
    fill: str | None = None
    stroke: str | None = None
    line: float = 1.0
    radius: float = 0.0


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed outline."""

    points: tuple[Point, ...]
    fill: str | None = None
    stroke: str | None = None
    line: float = 1.0


@dataclass(frozen=True, slots=True)
class Polyline:
    """An open line."""

    points: tuple[Point, ...]
    stroke: str
    line: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text: where it begins, its baseline, the box it must stay in, its ground."""

    text: str
    x: float
    baseline: float
    face: Face
    size: float
    fill: str
    ground: str
    box: Box

    @property
    def extent(self) -> Box:
        """What it takes up, by the font's own metrics."""
        return Box(
            self.x - self.face.overhang(self.text) * self.size,
            self.baseline - self.face.ascent * self.size,
            self.face.width(self.text) * self.size,
            (self.face.ascent + self.face.descent) * self.size,
        )


Shape: TypeAlias = Rectangle | Polygon | Polyline | Line


@dataclass(slots=True)
class Scene:
    """One page."""

    width: float
    height: float
    ground: str
    shapes: list[Shape] = field(default_factory=list)

    @property
    def page(self) -> Box:
        return Box(0, 0, self.width, self.height)

    def lines(self) -> Iterator[Line]:
        """Its lines of text."""
        return (shape for shape in self.shapes if isinstance(shape, Line))

    def overflows(self) -> list[Line]:
        """The lines that leave their box, and those whose box leaves the page."""
        return [
            line
            for line in self.lines()
            if not line.box.holds(line.extent) or not self.page.holds(line.box)
        ]
