"""Writes a drawing as SVG that refers to nothing outside it: its fonts are within."""

import base64
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

from .fonts import Face
from .scene import Line, Point, Polygon, Polyline, Rectangle, Scene


def svg(scene: Scene, title: str) -> bytes:
    """The text of the file; each line keeps its measured width whatever font shows it."""
    size = f'width="{scene.width:.2f}pt" height="{scene.height:.2f}pt"'
    view = f'viewBox="0 0 {scene.width:.2f} {scene.height:.2f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{''.join(_faces({line.face for line in scene.lines()}))}</style>",
        f'<rect width="100%" height="100%" fill="{scene.ground}"/>',
        *(_shape(shape) for shape in scene.shapes),
        "</svg>\n",
    ]
    return "\n".join(parts).encode()


def _faces(faces: Iterable[Face]) -> Iterator[str]:
    for face in sorted(faces, key=lambda face: face.name):
        data = base64.b64encode(face.path.read_bytes()).decode()
        yield (
            f"@font-face{{font-family:{face.name};font-weight:{_weight(face)};"
            f"src:url(data:font/ttf;base64,{data}) format('truetype')}}"
        )


def _shape(shape: Rectangle | Polygon | Polyline | Line) -> str:
    match shape:
        case Rectangle():
            x, y, wide, high = shape.box
            place = f'x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{high:.2f}"'
            paint = _paint(shape.fill, shape.stroke, shape.line)
            return f'<rect {place} rx="{shape.radius:g}" {paint}/>'
        case Polygon():
            paint = _paint(shape.fill, shape.stroke, shape.line)
            return f'<polygon points="{_points(shape.points)}" {paint}/>'
        case Polyline():
            dash = ' stroke-dasharray="4 3"' if shape.dashed else ""
            paint = _paint(None, shape.stroke, shape.line)
            return f'<polyline points="{_points(shape.points)}" {paint}{dash}/>'
        case Line():
            return _text(shape)


def _text(line: Line) -> str:
    fonts = quoteattr(f"{line.face.name}, DejaVu Sans, Verdana, sans-serif")
    place = f'x="{line.x:.2f}" y="{line.baseline:.2f}" font-size="{line.size:.2f}"'
    width = line.face.advance(line.text) * line.size
    kept = f'textLength="{width:.2f}" lengthAdjust="spacingAndGlyphs"'
    return (
        f"<text {place} {kept} font-family={fonts} "
        f'font-weight="{_weight(line.face)}" fill="{line.fill}">{escape(line.text)}</text>'
    )


def _weight(face: Face) -> str:
    return "bold" if face.bold else "normal"


def _points(points: tuple[Point, ...]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _paint(fill: str | None, stroke: str | None, line: float) -> str:
    painted = f'fill="{fill or "none"}"'
    return f'{painted} stroke="{stroke}" stroke-width="{line:g}"' if stroke else painted
