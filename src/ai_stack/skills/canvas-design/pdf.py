"""Writes a drawing as PDF, its fonts embedded, its text to be searched and copied."""

from io import BytesIO

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from .scene import Line, Point, Polygon, Polyline, Rectangle, Scene


def pdf(scene: Scene, title: str) -> bytes:
    """One page; the same drawing gives the same bytes."""
    out = BytesIO()
    canvas = Canvas(out, pagesize=(scene.width, scene.height), invariant=1)
    canvas.setTitle(title)
    canvas.setFillColor(scene.ground)
    canvas.rect(0, 0, scene.width, scene.height, stroke=0, fill=1)
    for shape in scene.shapes:
        match shape:
            case Rectangle():
                _rectangle(canvas, shape, scene.height)
            case Polygon():
                _ink(canvas, shape.fill, shape.stroke, shape.line)
                _drawn(canvas, shape.points, scene.height, shape.fill, shape.stroke, closed=True)
            case Polyline():
                _ink(canvas, None, shape.stroke, shape.line)
                canvas.setDash([4, 3] if shape.dashed else [])
                _drawn(canvas, shape.points, scene.height, None, shape.stroke, closed=False)
                canvas.setDash([])
            case Line():
                _line(canvas, shape, scene.height)
    canvas.save()
    return out.getvalue()


def _ink(canvas: Canvas, fill: str | None, stroke: str | None, line: float) -> None:
    canvas.setLineWidth(line)
    if fill:
        canvas.setFillColor(fill)
    if stroke:
        canvas.setStrokeColor(stroke)


def _rectangle(canvas: Canvas, shape: Rectangle, height: float) -> None:
    _ink(canvas, shape.fill, shape.stroke, shape.line)
    x, y, wide, high = shape.box
    radius = min(shape.radius, wide / 2, high / 2)
    marks = {"stroke": int(shape.stroke is not None), "fill": int(shape.fill is not None)}
    if radius:
        canvas.roundRect(x, height - y - high, wide, high, radius, **marks)
    else:
        canvas.rect(x, height - y - high, wide, high, **marks)


def _drawn(
    canvas: Canvas,
    points: tuple[Point, ...],
    height: float,
    fill: str | None,
    stroke: str | None,
    *,
    closed: bool,
) -> None:
    path = canvas.beginPath()
    path.moveTo(points[0][0], height - points[0][1])
    for x, y in points[1:]:
        path.lineTo(x, height - y)
    if closed:
        path.close()
    canvas.drawPath(path, stroke=int(stroke is not None), fill=int(fill is not None))


def _line(canvas: Canvas, line: Line, height: float) -> None:
    name = f"{line.face.name}-{line.face.path.stat().st_ino}"
    if name not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(name, str(line.face.path)))
    canvas.setFillColor(line.fill)
    canvas.setFont(name, line.size)
    canvas.drawString(line.x, height - line.baseline, line.text)
