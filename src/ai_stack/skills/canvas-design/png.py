"""Writes a drawing as PNG, drawn twice as large and made smaller, for smooth edges."""

import math
from io import BytesIO
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from .scene import Line, Point, Polygon, Polyline, Rectangle, Scene

MOST_PIXELS = 12_000_000
FINER = 2
DASH_PT = (4.0, 3.0)


def largest_dpi(scene: Scene, dpi: int) -> int:
    """The wanted resolution, or the highest at which the picture is not too large."""
    inches = scene.width * scene.height / 72**2
    return max(36, min(dpi, int(math.sqrt(MOST_PIXELS / inches))))


def png(scene: Scene, dpi: int) -> bytes:
    """The picture at a resolution that `largest_dpi` allows."""
    scale = dpi / 72
    size = (max(1, round(scene.width * scale)), max(1, round(scene.height * scale)))
    picture = Image.new("RGB", (size[0] * FINER, size[1] * FINER), scene.ground)
    draw = ImageDraw.Draw(picture)
    for shape in scene.shapes:
        _shape(draw, shape, scale * FINER)
    out = BytesIO()
    picture.resize(size, Image.Resampling.BOX).save(out, "PNG", dpi=(dpi, dpi))
    return out.getvalue()


def _shape(
    draw: ImageDraw.ImageDraw, shape: Rectangle | Polygon | Polyline | Line, scale: float
) -> None:
    match shape:
        case Rectangle():
            x, y, wide, high = (value * scale for value in shape.box)
            radius = min(shape.radius * scale, wide / 2, high / 2)
            width = max(1, round(shape.line * scale)) if shape.stroke else 0
            place = (x, y, max(x, x + wide - 1), max(y, y + high - 1))
            draw.rounded_rectangle(place, radius, shape.fill, shape.stroke, width)
        case Polygon():
            points = _scaled(shape.points, scale)
            draw.polygon(points, shape.fill)
            if shape.stroke:
                _stroke(draw, [*points, points[0]], shape.stroke, shape.line * scale)
        case Polyline():
            points = _scaled(shape.points, scale)
            for part in _dashes(points, scale) if shape.dashed else [points]:
                _stroke(draw, part, shape.stroke, shape.line * scale)
        case Line():
            font = ImageFont.truetype(str(shape.face.path), shape.size * scale)
            start = (shape.x * scale, shape.baseline * scale)
            draw.text(start, shape.text, shape.fill, font, anchor="ls")


def _scaled(points: tuple[Point, ...], scale: float) -> list[Point]:
    return [(x * scale, y * scale) for x, y in points]


def _stroke(draw: ImageDraw.ImageDraw, points: list[Point], colour: str, width: float) -> None:
    draw.line(points, colour, max(1, round(width)), joint="curve")


def _dashes(points: list[Point], scale: float) -> list[list[Point]]:
    """A line in pieces, with gaps between."""
    found: list[list[Point]] = []
    for a, b in pairwise(points):
        length, at = math.dist(a, b), 0.0
        while at < length:
            end = min(at + DASH_PT[0] * scale, length)
            ends = (at / length, end / length)
            found.append([(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for t in ends])
            at += sum(DASH_PT) * scale
    return found
