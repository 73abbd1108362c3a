"""Draws elements in their states into frames; each larger than asked, then made smaller."""

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFont
from reportlab.pdfbase.ttfonts import TTFontFile

from ai_stack.skill import SkillFailed

from .elements import Element
from .motion import State, at
from .outlines import OUTLINES

LARGER = 3
SMALLEST_FONT, TRIES = 6, 12


def frames(
    elements: list[Element], size: tuple[int, int], count: int, background: str | None
) -> list[Image.Image]:
    """The loop's frames, as RGBA."""
    return [_frame(elements, size, n / count, background) for n in range(count)]


def _frame(
    elements: list[Element], size: tuple[int, int], t: float, background: str | None
) -> Image.Image:
    large = (size[0] * LARGER, size[1] * LARGER)
    ground = (*ImageColor.getrgb(background), 255) if background else (0, 0, 0, 0)
    canvas = Image.new("RGBA", large, ground)
    for element in elements:
        state = at(element, t)
        if state.opacity > 0 and abs(state.scale_x * state.scale_y) > 1e-4:
            layer = _text(element, state, large) if element.shape == "text" else None
            _put(canvas, layer or _outlined(element, state, large), state.opacity)
    return canvas.resize(size, Image.Resampling.BOX)


def _put(canvas: Image.Image, layer: Image.Image, opacity: float) -> None:
    if opacity < 1:
        layer.putalpha(layer.getchannel("A").point(lambda a: round(a * opacity)))
    canvas.alpha_composite(layer)


def _outlined(element: Element, state: State, size: tuple[int, int]) -> Image.Image:
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    width = round(element.stroke_width * min(size))
    for polygon in OUTLINES[element.shape]():
        points = [_placed(x, y, element, state, size) for x, y in polygon]
        draw.polygon(points, fill=element.fill)
        if element.stroke and width:
            draw.line([*points, points[0], points[1]], element.stroke, width, joint="curve")
    return layer


def _placed(
    x: float, y: float, element: Element, state: State, size: tuple[int, int]
) -> tuple[float, float]:
    """A point of the outline, on the canvas."""
    wide = x * element.width * state.scale_x * size[0]
    high = y * element.height * state.scale_y * size[1]
    angle = math.radians(state.rotation)
    return (
        state.x * size[0] + wide * math.cos(angle) - high * math.sin(angle),
        state.y * size[1] + wide * math.sin(angle) + high * math.cos(angle),
    )


def _text(element: Element, state: State, size: tuple[int, int]) -> Image.Image:
    """The text as large as its box lets it be, turned and scaled as a picture."""
    tile = _tile(
        element.text.strip(),
        element.fill,
        element.stroke,
        round(element.stroke_width * min(size)) if element.stroke else 0,
        (round(element.width * size[0]), round(element.height * size[1])),
    )
    wide = max(1, round(tile.width * abs(state.scale_x)))
    high = max(1, round(tile.height * abs(state.scale_y)))
    turned = tile.resize((min(wide, 4096), min(high, 4096)), Image.Resampling.BILINEAR).rotate(
        -state.rotation, Image.Resampling.BICUBIC, expand=True
    )
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    place = (
        round(state.x * size[0] - turned.width / 2),
        round(state.y * size[1] - turned.height / 2),
    )
    layer.paste(turned, place)
    return layer


@lru_cache(maxsize=32)
def _tile(
    text: str, fill: str, stroke: str | None, stroke_width: int, box: tuple[int, int]
) -> Image.Image:
    font = _fitting(text, box, stroke_width)
    tile = Image.new("RGBA", (max(box[0], 1), max(box[1], 1)), (0, 0, 0, 0))
    ImageDraw.Draw(tile).multiline_text(
        (box[0] / 2, box[1] / 2),
        text,
        fill,
        font,
        anchor="mm",
        align="center",
        stroke_width=stroke_width,
        stroke_fill=stroke,
    )
    return tile


def _fitting(text: str, box: tuple[int, int], stroke_width: int) -> ImageFont.FreeTypeFont:
    """The largest font in which the text stays in the box; SkillFailed where none does."""
    low, high = SMALLEST_FONT, max(SMALLEST_FONT + 1, box[1])
    if not _fits(text, ImageFont.truetype(font_file(), low), box, stroke_width):
        raise SkillFailed(f"The text {text[:40]!r} does not fit its box; make the box larger.")
    while high - low > 1:
        middle = (low + high) // 2
        font = ImageFont.truetype(font_file(), middle)
        low, high = (middle, high) if _fits(text, font, box, stroke_width) else (low, middle)
    return ImageFont.truetype(font_file(), low)


def _fits(text: str, font: ImageFont.FreeTypeFont, box: tuple[int, int], stroke_width: int) -> bool:
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = draw.multiline_textbbox(
        (box[0] / 2, box[1] / 2), text, font, anchor="mm", align="center", stroke_width=stroke_width
    )
    return bool(left >= 0 and top >= 0 and right <= box[0] and bottom <= box[1])


@lru_cache(maxsize=1)
def font_file() -> str:
    """Vera Bold, which ReportLab ships."""
    spec = find_spec("reportlab")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "fonts" / "VeraBd.ttf")


@lru_cache(maxsize=1)
def letters() -> frozenset[int]:
    """The characters that the font has."""
    return frozenset(TTFontFile(font_file()).charToGlyph)


def unwritable(text: str) -> list[str]:
    """The characters of a text that the font lacks."""
    return sorted({c for c in text if c != "\n" and ord(c) not in letters()})
