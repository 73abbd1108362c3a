"""Fills a part of a page with a pattern; every shape of it stays in that part."""

import math
import random
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from .colours import Palette, mixed
from .scene import Box, Point, Polygon, Rectangle, Shape

Art: TypeAlias = Literal["tiles", "waves", "rings", "plain"]
SMALLEST = 24.0


def pattern(art: Art, area: Box, palette: Palette, seed: str) -> list[Shape]:
    """The shapes; the same seed gives the same. Too small an area stays empty."""
    if min(area.width, area.height) < SMALLEST:
        return []
    chance = random.Random(seed)  # noqa: S311
    return list(ARTS[art](area, palette, chance))


def _colours(palette: Palette) -> list[str]:
    return [
        palette.accent,
        palette.surface,
        mixed(palette.accent, palette.ground, 0.45),
        mixed(palette.ink, palette.ground, 0.15),
        mixed(palette.accent, palette.ink, 0.4),
    ]


def _tiles(area: Box, palette: Palette, chance: random.Random) -> Iterator[Shape]:
    """Squares, each with a quarter disc, a disc, or a triangle."""
    rows = max(1, round(area.height / max(area.width / 8, area.height / 8, SMALLEST)))
    columns = max(1, round(area.width / (area.height / rows)))
    wide, high = area.width / columns, area.height / rows
    for n in range(rows * columns):
        cell = Box(area.x + n % columns * wide, area.y + n // columns * high, wide, high)
        ground, front = chance.sample(_colours(palette), 2)
        yield Rectangle(cell, ground)
        yield Polygon(_motif(cell, chance), front)


def _motif(cell: Box, chance: random.Random) -> tuple[Point, ...]:
    kind, corner = chance.choice(("quarter", "disc", "triangle", "half")), chance.randrange(4)
    cx, cy = cell.x + cell.width * (corner % 2), cell.y + cell.height * (corner // 2)
    to_x, to_y = (1 - 2 * (corner % 2)) * cell.width, (1 - 2 * (corner // 2)) * cell.height
    if kind == "quarter":
        turns = [n / 24 * math.pi / 2 for n in range(25)]
        return ((cx, cy), *((cx + to_x * math.cos(t), cy + to_y * math.sin(t)) for t in turns))
    if kind == "disc":
        return _ellipse(cell, 0.32)
    if kind == "half":
        return ((cx, cy), (cx + to_x, cy), (cx + to_x, cy + to_y / 2), (cx, cy + to_y / 2))
    return ((cx, cy), (cx + to_x, cy), (cx, cy + to_y))


def _ellipse(box: Box, radius: float = 0.5) -> tuple[Point, ...]:
    turns = (n / 72 * 2 * math.pi for n in range(72))
    cx, cy = box.x + box.width / 2, box.y + box.height / 2
    return tuple(
        (cx + math.cos(t) * radius * box.width, cy + math.sin(t) * radius * box.height)
        for t in turns
    )


def _waves(area: Box, palette: Palette, chance: random.Random) -> Iterator[Shape]:
    """Hills, one before the other, each darker."""
    yield Rectangle(area, palette.surface)
    layers = 5
    for n in range(layers):
        top = area.y + area.height * (0.2 + 0.8 * n / layers)
        swing, shift = area.height * 0.09, chance.uniform(0, 2 * math.pi)
        often = chance.uniform(1.0, 2.2)
        edge = []
        for step in range(61):
            part = step / 60
            y = top + swing * math.sin(2 * math.pi * often * part + shift)
            edge.append((area.x + area.width * part, min(max(y, area.y), area.bottom)))
        colour = mixed(palette.surface, palette.accent, (n + 1) / layers)
        yield Polygon((*edge, (area.right, area.bottom), (area.x, area.bottom)), colour)


def _rings(area: Box, palette: Palette, chance: random.Random) -> Iterator[Shape]:
    """Discs within discs, in a row."""
    yield Rectangle(area, palette.surface)
    side = min(area.width, area.height)
    count = max(1, int(area.width // side))
    gap = (area.width - count * side) / (count + 1)
    for n in range(count):
        x = area.x + gap + n * (side + gap)
        box = Box(x, area.y + (area.height - side) / 2, side, side)
        colours = _colours(palette)
        chance.shuffle(colours)
        for ring, colour in enumerate(colours):
            yield Polygon(_ellipse(box, 0.46 - 0.09 * ring), colour)


def _plain(area: Box, palette: Palette, chance: random.Random) -> Iterator[Shape]:
    yield Rectangle(area, palette.accent)


ARTS: dict[Art, Callable[[Box, Palette, random.Random], Iterator[Shape]]] = {
    "tiles": _tiles,
    "waves": _waves,
    "rings": _rings,
    "plain": _plain,
}
