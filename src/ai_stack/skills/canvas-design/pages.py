"""Lays out posters and cards: blocks one below the other, as large as the page lets them be."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ai_stack.skill import SkillFailed

from .art import Art, pattern
from .brief import Block, BlockKind
from .colours import Palette
from .fitting import LEAST_PT, Setting, set_text
from .fonts import Family
from .scene import Box, Polygon, Rectangle, Scene, Shape

Size: TypeAlias = Literal["a3", "a4", "letter", "square", "wide", "business", "a6"]
MM = 72 / 25.4
SIZES: dict[Size, tuple[float, float]] = {
    "a3": (297 * MM, 420 * MM),
    "a4": (210 * MM, 297 * MM),
    "letter": (612.0, 792.0),
    "square": (810.0, 810.0),
    "wide": (900.0, 472.5),
    "business": (85 * MM, 55 * MM),
    "a6": (148 * MM, 105 * MM),
}
SCALES = tuple(1.0 - n * 0.04 for n in range(19))
LEAST_ART, MOST_ART = 0.1, 0.5


@dataclass(frozen=True, slots=True)
class Style:
    """How a kind of block is set: size as part of the page's unit, room above as part of size."""

    size: float
    bold: bool = False
    above: float = 0.5
    leading: float = 1.15
    whole: bool = False
    muted: bool = False


STYLES: dict[BlockKind, Style] = {
    "kicker": Style(2.4, bold=True, above=0.0, muted=True),
    "title": Style(11.0, bold=True, above=0.25, leading=1.0, whole=True),
    "subtitle": Style(4.6, above=0.5, whole=True),
    "paragraph": Style(2.7, above=0.9, leading=1.3),
    "item": Style(2.7, above=0.45, leading=1.25),
    "quote": Style(4.2, above=0.8, leading=1.2, muted=True),
    "detail": Style(3.1, above=0.5, leading=1.2),
    "footer": Style(2.0, above=0.8, muted=True),
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A block's setting, and where it is below the column's top."""

    block: Block
    setting: Setting
    top: float
    indent: float
    label: Setting | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A page's parts: the column for text, and the room for art if there is any."""

    width: float
    height: float
    margin: float
    unit: float
    art_left: bool


def plan(size: tuple[float, float], *, card: bool) -> Plan:
    """Portrait pages have their art on top, landscape ones on the left."""
    width, height = size
    landscape = width > height * 1.05
    unit = (height if landscape else width) / 100
    unit *= 1.45 if card else 1.15 if landscape else 1.0
    return Plan(width, height, min(width, height) * 0.08, unit, landscape)


def compose(
    blocks: list[Block], page: Plan, palette: Palette, family: Family, art: Art, seed: str
) -> Scene:
    """The whole page; SkillFailed for more text than can be read on it."""
    body = [b for b in blocks if b.kind != "footer"]
    foot = [b for b in blocks if b.kind == "footer"]
    column = _column(page)
    for scale in SCALES:
        placed = _stacked(body, page, family, column.width, scale)
        footer = _stacked(foot, page, family, column.width, scale)
        room = column.height - _height(placed) - _height(footer) - page.margin * 0.4 * bool(foot)
        if room >= (0 if page.art_left else page.height * LEAST_ART):
            return _drawn(page, column, palette, placed, footer, room, art, seed)
    count = sum(len(b.text) for b in blocks)
    raise SkillFailed(
        f"These {count} characters do not fit this size at {LEAST_PT:g} points or more; "
        "shorten the brief or choose a larger size."
    )


def _column(page: Plan) -> Box:
    left = page.width * 0.3 + page.margin if page.art_left else page.margin
    return Box(left, page.margin, page.width - left - page.margin, page.height - 2 * page.margin)


def _stacked(
    blocks: list[Block], page: Plan, family: Family, width: float, scale: float
) -> list[Placed]:
    """Blocks at a scale, one below the other."""
    found: list[Placed] = []
    top = 0.0
    for block in blocks:
        style = STYLES[block.kind]
        size = max(LEAST_PT, style.size * page.unit * scale)
        top += style.above * size if found else 0.0
        found.append(_placed(block, style, size, top, family, width))
        label = found[-1].label
        top += max(found[-1].setting.height, label.height if label else 0.0)
    return found


def _placed(
    block: Block, style: Style, size: float, top: float, family: Family, width: float
) -> Placed:
    label, indent = None, 0.0
    if block.kind == "detail":
        label = set_text(block.label, family.bold, size, width * 0.36, leading=style.leading)
        indent = min(label.width + size * 0.8, width * 0.45)
    elif block.kind in ("item", "quote"):
        indent = size
    face = family.face(style.bold)
    room = width - indent
    setting = set_text(block.text, face, size, room, leading=style.leading, whole=style.whole)
    return Placed(block, setting, top, indent, label)


def _height(placed: list[Placed]) -> float:
    if not placed:
        return 0.0
    last = placed[-1]
    return last.top + max(last.setting.height, last.label.height if last.label else 0.0)


def _drawn(
    page: Plan,
    column: Box,
    palette: Palette,
    placed: list[Placed],
    footer: list[Placed],
    room: float,
    art: Art,
    seed: str,
) -> Scene:
    scene = Scene(page.width, page.height, palette.ground)
    if page.art_left:
        area, start = Box(0, 0, page.width * 0.3, page.height), column.y + room / 2
    else:
        high = min(room + page.margin * 0.5, page.height * MOST_ART)
        area, start = Box(0, 0, page.width, high), high + page.margin * 0.5
        start += max(0.0, (room + page.margin * 0.5 - high) / 2)
    scene.shapes += pattern(art, area, palette, seed)
    scene.shapes += _column_shapes(placed, column, start, palette)
    scene.shapes += _column_shapes(footer, column, column.bottom - _height(footer), palette)
    return scene


def _column_shapes(
    placed: list[Placed], column: Box, start: float, palette: Palette
) -> Iterator[Shape]:
    for one in placed:
        y = start + one.top
        style = STYLES[one.block.kind]
        fill = palette.muted if style.muted else palette.ink
        box = Box(column.x + one.indent, y, column.width - one.indent, one.setting.height)
        yield from one.setting.placed(box, fill, palette.ground)
        yield from _mark(one, column, y, palette)


def _mark(one: Placed, column: Box, y: float, palette: Palette) -> Iterator[Shape]:
    """What stands before the text: a label, a bullet, a bar."""
    size = one.setting.size
    if one.label:
        box = Box(column.x, y, one.label.width, one.label.height)
        yield from one.label.placed(box, palette.accent, palette.ground)
    elif one.block.kind == "item":
        middle, half = y + one.setting.line_height / 2, size * 0.16
        x = column.x + half
        yield Polygon(
            ((x, middle - half), (x + half, middle), (x, middle + half), (x - half, middle)),
            palette.accent,
        )
    elif one.block.kind == "quote":
        yield Rectangle(Box(column.x, y, size * 0.18, one.setting.height), palette.accent)
