"""Draws a graph: boxes as large as their labels, arrows around what is between."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from .brief import Edge, Form, Node
from .colours import Palette
from .fitting import Setting, set_text
from .fonts import Family
from .layering import Layers, Place, layered
from .placing import placed
from .scene import Box, Point, Polygon, Polyline, Rectangle, Scene, Shape

Direction: TypeAlias = Literal["down", "right"]
LABEL_PT, EDGE_PT, TITLE_PT = 11.0, 9.0, 20.0
WIDEST, PAD, MARGIN, RANK_GAP = 150.0, 12.0, 32.0, 40.0
HEAD = 7.0
# How much larger than its label's rectangle a form is.
ROOM: dict[Form, tuple[float, float]] = {
    "box": (1, 1),
    "round": (1, 1),
    "accent": (1, 1),
    "ellipse": (1.42, 1.42),
    "diamond": (2, 2),
    "cylinder": (1, 1.5),
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """The page, and what is told of it; `boxes` are the nodes' by name."""

    scene: Scene
    boxes: Mapping[str, Box]
    crossings: int
    ranks: int


@dataclass(frozen=True, slots=True)
class Axes:
    """Turns the layout's axes, where ranks go down, into the page's."""

    right: bool
    shift: Point

    def box(self, box: Box) -> Box:
        x, y, wide, high = box
        x, y, wide, high = (y, x, high, wide) if self.right else (x, y, wide, high)
        return Box(x + self.shift[0], y + self.shift[1], wide, high)


def draw(
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    palette: Palette,
    family: Family,
    direction: Direction,
    title: str,
) -> Drawing:
    """The whole drawing, on a page as large as it needs."""
    right = direction == "right"
    labels = {n.name: set_text(n.label, family.plain, LABEL_PT, WIDEST, leading=1.1) for n in nodes}
    notes = {
        n: set_text(e.label, family.plain, EDGE_PT, WIDEST) for n, e in enumerate(edges) if e.label
    }
    layers = layered(nodes, edges)
    sizes = {n.name: _size(n.form, labels[n.name]) for n in nodes}
    turned = {name: (size[1], size[0]) if right else size for name, size in sizes.items()}
    found = placed(layers, turned, _rooms(layers, notes, right))
    width, height = (found.height, found.width) if right else (found.width, found.height)
    heading = set_text(title, family.bold, TITLE_PT, max(width, 320.0)) if title else None
    top = heading.height + PAD if heading else 0.0
    page = (
        max(width, heading.width if heading else 0.0) + 2 * MARGIN + _spare(edges, notes),
        height + top + 2 * MARGIN,
    )
    scene = Scene(*page, palette.ground)
    axes = Axes(right, (MARGIN, MARGIN + top))
    if heading:
        box = Box(MARGIN, MARGIN, page[0] - 2 * MARGIN, heading.height)
        scene.shapes += heading.placed(box, palette.ink, palette.ground)
    boxes = {p: axes.box(b) for p, b in found.boxes.items()}
    bands = {p: axes.box(b) for p, b in found.bands.items()}
    ways = [_way(n, edge, layers, boxes, bands, right) for n, edge in enumerate(edges)]
    scene.shapes += _arrows(edges, ways, palette)
    for node in nodes:
        scene.shapes += _node(node, boxes[node.name], labels[node.name], palette)
    scene.shapes += _notes(ways, boxes, notes, scene, palette)
    own = {node.name: boxes[node.name] for node in nodes}
    return Drawing(scene, own, layers.crossings(), len(layers.ranks))


def _size(form: Form, label: Setting) -> tuple[float, float]:
    wide, high = ROOM[form]
    return max(56.0, (label.width + 2 * PAD) * wide), max(32.0, (label.height + PAD) * high)


def _rooms(layers: Layers, notes: Mapping[int, Setting], right: bool) -> list[float]:
    """Room after each rank: enough for the labels that stand there."""
    rank_of = {p: r for r, rank in enumerate(layers.ranks) for p in rank}
    rooms = [RANK_GAP] * len(layers.ranks)
    standing: dict[int, float] = {}
    for n, note in notes.items():
        if n in layers.chains:
            rank = rank_of[layers.chains[n][0]]
            size = note.width if right else note.height + 4
            standing[rank] = (
                max(standing.get(rank, 0), size) if right else (standing.get(rank, 0) + size)
            )
    return [room + standing.get(rank, 0.0) for rank, room in enumerate(rooms)]


def _spare(edges: Sequence[Edge], notes: Mapping[int, Setting]) -> float:
    """Room on the right for arrows from a node to itself, and their labels."""
    selves = [n for n, e in enumerate(edges) if e.source == e.target]
    return max((24.0 + (notes[n].width if n in notes else 0.0) for n in selves), default=0.0)


def _node(node: Node, box: Box, label: Setting, palette: Palette) -> Iterator[Shape]:
    accent = node.form == "accent"
    fill = palette.accent if accent else palette.surface
    yield from _outline(node.form, box, fill, palette.accent)
    top = box.y + (box.height - label.height) / 2
    top += box.height * 0.06 if node.form == "cylinder" else 0.0
    x = box.x + (box.width - label.width) / 2
    room = Box(x - 2, top, label.width + 4, label.height)
    ink = palette.on_accent if accent else palette.ink
    yield from label.placed(room, ink, fill, "center")


def _outline(form: Form, box: Box, fill: str, stroke: str) -> Iterator[Shape]:
    x, y, wide, high = box
    cx, cy = x + wide / 2, y + high / 2
    if form == "ellipse":
        yield Polygon(_arc(cx, cy, wide / 2, high / 2, 0, 360), fill, stroke, 1.2)
    elif form == "diamond":
        yield Polygon(((cx, y), (box.right, cy), (cx, box.bottom), (x, cy)), fill, stroke, 1.2)
    elif form == "cylinder":
        lid = high * 0.1
        lower = _arc(cx, box.bottom - lid, wide / 2, lid, 0, 180)
        yield Polygon(((x, y + lid), *lower[::-1], (box.right, y + lid)), fill, stroke, 1.2)
        yield Polygon(_arc(cx, y + lid, wide / 2, lid, 0, 360), fill, stroke, 1.2)
    else:
        yield Rectangle(box, fill, stroke, 1.2, radius=14.0 if form == "round" else 3.0)


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> tuple[Point, ...]:
    turns = (math.radians(start + (end - start) * n / 48) for n in range(49))
    return tuple((cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in turns)


def _arrows(
    edges: Sequence[Edge], ways: Sequence[Sequence[Point]], palette: Palette
) -> Iterator[Shape]:
    for edge, way in zip(edges, ways, strict=True):
        yield Polyline(tuple(way), palette.muted, 1.2, edge.dashed)
        yield Polygon(_head(way[-2], way[-1]), palette.muted)


def _way(
    n: int,
    edge: Edge,
    layers: Layers,
    boxes: Mapping[Place, Box],
    bands: Mapping[Place, Box],
    right: bool,
) -> list[Point]:
    """An arrow's way, from the edge of one node to that of the other.

    Within a rank it keeps to the bands of its own places, so that it crosses no node.
    """
    if n not in layers.chains:
        box = boxes[edge.source]
        y, out = box.y + box.height / 2, box.right + 16
        return [(box.right, y - 7), (out, y - 7), (out, y + 7), (box.right, y + 7)]
    first, *bends, last = layers.chains[n]
    points = [_side(boxes[first], right, last=True), _side(bands[first], right, last=True)]
    for bend in bends:
        points += [_side(bands[bend], right, last=False), _side(bands[bend], right, last=True)]
    points += [_side(bands[last], right, last=False), _side(boxes[last], right, last=False)]
    way = [p for n, p in enumerate(points) if n == 0 or math.dist(p, points[n - 1]) > 0.01]
    return way[::-1] if n in layers.turned else way


def _side(box: Box, right: bool, *, last: bool) -> Point:
    """The middle of the side where arrows leave, or where they come in."""
    if right:
        return (box.right if last else box.x), box.y + box.height / 2
    return box.x + box.width / 2, (box.bottom if last else box.y)


def _head(before: Point, tip: Point) -> tuple[Point, ...]:
    angle = math.atan2(tip[1] - before[1], tip[0] - before[0])
    sides = (angle + math.pi - 0.4, angle + math.pi + 0.4)
    return (tip, *((tip[0] + HEAD * math.cos(a), tip[1] + HEAD * math.sin(a)) for a in sides))


def _notes(
    ways: Sequence[Sequence[Point]],
    boxes: Mapping[Place, Box],
    notes: Mapping[int, Setting],
    scene: Scene,
    palette: Palette,
) -> Iterator[Shape]:
    """Labels of arrows, each on a ground of its own, moved along until it covers nothing."""
    taken = [box for place, box in boxes.items() if not place.startswith("\0")]
    for n, note in notes.items():
        box = _free(ways[n], note, taken, scene.page)
        taken.append(box)
        yield Rectangle(box, palette.ground)
        yield from note.placed(box, palette.ink, palette.ground, "center")


def _free(points: Sequence[Point], note: Setting, taken: list[Box], page: Box) -> Box:
    """A box for a label along an arrow: the nearest to its middle that meets no other, or the one
    that is least covered."""
    candidates = []
    for part in (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82):
        x, y = _along(points, part)
        for aside in (0.0, -0.5, 0.5):
            left = x - note.width / 2 - 2 + aside * (note.width + 8)
            left = min(max(left, 2.0), page.width - note.width - 6)
            candidates.append(Box(left, y - note.height / 2, note.width + 4, note.height))
    return min(candidates, key=lambda box: sum(box.meets(other) for other in taken))


def _along(points: Sequence[Point], part: float) -> Point:
    """The point at a part of a line's length."""
    lengths = [math.dist(a, b) for a, b in pairwise(points)]
    left = sum(lengths) * part
    for (a, b), length in zip(pairwise(points), lengths, strict=True):
        if left <= length and length:
            share = left / length
            return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
        left -= length
    return points[-1]
