"""Blocks laid out on pages; nothing stands outside its margins."""

import html
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image as Picture
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import cm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, ListFlowable, LongTable, SimpleDocTemplate, Spacer
from reportlab.platypus import Image as PlacedImage
from reportlab.platypus import PageBreak as NewPage
from reportlab.platypus import Paragraph as Prose
from reportlab.platypus.doctemplate import LayoutError

from ai_stack.skill import SkillFailed

from .blocks import Block, Code, Heading, Image, ListOf, PageBreak, Paragraph, Table
from .fonts import Fonts, fonts_for

SIZES = {"a4": A4, "letter": LETTER}
MARGIN = 2 * cm
HEADINGS = {1: 20, 2: 15, 3: 12.5, 4: 11}
MARKS = (
    (re.compile(r"\*\*(?=\S)(.{1,4000}?)(?<=\S)\*\*"), r"<b>\1</b>"),
    (re.compile(r"\*(?![\s*])([^*]{1,4000}?)(?<=\S)\*"), r"<i>\1</i>"),
    (
        re.compile(r"\[([^\]]{1,2000})\]\(((?:https?://|mailto:)[^\s)<>&\"]{1,2000})\)"),
        r'<link href="\2" color="#1a56a8">\1</link>',
    ),
)
CODE = re.compile(r"`([^`]{1,4000})`")
FORMATS, MAX_PIXELS, MAX_IMAGE_BYTES = ("PNG", "JPEG", "GIF", "BMP", "TIFF"), 50_000_000, 32 << 20
CONTROL = {code: None for code in range(32) if code not in (9, 10)}


class Layout:
    """Lays blocks out in one set of fonts."""

    def __init__(self, images: Mapping[str, Path], fonts: Fonts, width: float) -> None:
        self.images, self.fonts, self.width = images, fonts, width
        size = {"fontName": fonts.text, "fontSize": 10.5, "leading": 14.5}
        self.prose = ParagraphStyle("prose", **size, spaceAfter=7, splitLongWords=1)
        self.cell = ParagraphStyle("cell", self.prose, fontSize=9.5, leading=12.5, spaceAfter=0)
        self.code = ParagraphStyle(
            "code", self.cell, fontName=fonts.mono, fontSize=8.5, leading=11, spaceAfter=7
        )

    def placed(self, block: Block) -> Sequence[Flowable]:
        """A block as what is put on pages."""
        match block:
            case Heading():
                return [Prose(self._marked(block.text), self._heading(block.level))]
            case Paragraph():
                return [Prose(self._marked(block.text), self.prose)]
            case ListOf():
                return [self._list(block), Spacer(1, 5)]
            case Table():
                return [self._table(block), Spacer(1, 9)]
            case Image():
                return [self._image(block), Spacer(1, 7)]
            case Code():
                return [self._lines(line) for line in block.text.split("\n")] + [Spacer(1, 7)]
            case PageBreak():
                return [NewPage()]

    def _heading(self, level: int) -> ParagraphStyle:
        size = HEADINGS[level]
        font = {"fontName": self.fonts.bold, "fontSize": size, "leading": size * 1.25}
        return ParagraphStyle(
            f"h{level}", self.prose, **font, spaceBefore=size * 0.6, spaceAfter=5, keepWithNext=1
        )

    def _marked(self, text: str) -> str:
        """A text with its marks as the layout's own."""
        parts = CODE.split(text.translate(CONTROL))
        for n, part in enumerate(parts):
            plain = html.escape(part)
            if n % 2:
                parts[n] = f'<font face="{self.fonts.mono}">{plain}</font>'
                continue
            for mark, by in MARKS:
                plain = mark.sub(by, plain)
            parts[n] = plain.replace("\n", "<br/>")
        return "".join(parts)

    def _lines(self, line: str) -> Flowable:
        plain = html.escape(line.translate(CONTROL).expandtabs(4)).replace(" ", "\u00a0")
        style = ParagraphStyle("line", self.code, spaceAfter=0)
        return Prose(plain or "\u00a0", style)

    def _list(self, block: ListOf) -> Flowable:
        items = [Prose(self._marked(item.strip()), self.prose) for item in block.items]
        kind = "1" if block.ordered else "bullet"
        start = None if block.ordered else "•"
        dots = {"bulletFontName": self.fonts.text, "bulletFontSize": 10.5}
        return ListFlowable(items, bulletType=kind, start=start, leftIndent=18, **dots)

    def _table(self, block: Table) -> Flowable:
        columns = max(len(row) for row in block.rows)
        bold = ParagraphStyle("head", self.cell, fontName=self.fonts.bold)
        cells = [
            [
                Prose(self._marked(text), bold if block.header and n == 0 else self.cell)
                for text in [*row, *[""] * (columns - len(row))]
            ]
            for n, row in enumerate(block.rows)
        ]
        style = [
            ("GRID", (0, 0), (-1, -1), 0.5, colors.HexColor("#9aa5b1")),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ]
        if block.header:
            style.append(("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e8ecf1")))
        head = int(block.header and len(block.rows) > 1)
        widths = self._widths(block, columns)
        return LongTable(cells, colWidths=widths, repeatRows=head, splitInRow=1, style=style)

    def _widths(self, block: Table, columns: int) -> list[float]:
        """Columns as wide as their longest text asks, within the page."""
        longest = [
            min(60, max(4, *(len(row[n]) if n < len(row) else 0 for row in block.rows), 0))
            for n in range(columns)
        ]
        return [self.width * one / sum(longest) for one in longest]

    def _image(self, block: Image) -> Flowable:
        if block.file not in self.images:
            raise SkillFailed(f"The image {block.file[:80]!r} is not in `images`.")
        file = self.images[block.file]
        width, height = _size(file)
        wanted = block.width_cm * cm if block.width_cm else width * 0.75
        scale = min(wanted, self.width) / width
        scale = min(scale, 22 * cm / height)
        return PlacedImage(str(file), width * scale, height * scale)


def created(
    blocks: Sequence[Block],
    images: Mapping[str, Path],
    *,
    title: str,
    author: str,
    footer: str,
    size: str,
) -> tuple[bytes, str]:
    """A document, and the signs that no font here has."""
    fonts = fonts_for([*_texts(blocks), footer])
    page = SIZES[size]
    layout = Layout(images, fonts, page[0] - 2 * MARGIN - 12)
    out = io.BytesIO()
    margins = dict.fromkeys(("leftMargin", "rightMargin", "topMargin", "bottomMargin"), MARGIN)
    template = SimpleDocTemplate(out, pagesize=page, title=title, author=author, **margins)
    flow = [placed for block in blocks for placed in layout.placed(block)]
    try:
        template.build(flow, canvasmaker=lambda *a, **k: Footed(footer, fonts.text, *a, **k))
    except (LayoutError, ValueError, OSError, AttributeError):
        raise SkillFailed("A block does not fit on a page: part its text or image.") from None
    return out.getvalue(), fonts.lacking


class Footed(Canvas):  # type: ignore[misc]
    """Writes a line below each page once their number is known."""

    def __init__(self, footer: str, font: str, *given: object, **named: object) -> None:
        super().__init__(*given, **named)
        self.footer, self.font = footer, font
        self.kept: list[dict[str, object]] = []

    def showPage(self) -> None:
        self.kept.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for n, state in enumerate(self.kept, 1):
            self.__dict__.update(state)
            line = self.footer.replace("{pages}", str(len(self.kept))).replace("{page}", str(n))
            self.setFont(self.font, 8.5)
            self.drawCentredString(self._pagesize[0] / 2, MARGIN / 2, line[:150])
            super().showPage()
        super().save()


def _texts(blocks: Sequence[Block]) -> list[str]:
    found = []
    for block in blocks:
        match block:
            case Heading() | Paragraph() | Code():
                found.append(block.text)
            case ListOf():
                found += block.items
            case Table():
                found += [cell for row in block.rows for cell in row]
    return found


def _size(file: Path) -> tuple[int, int]:
    if not file.is_file() or file.stat().st_size > MAX_IMAGE_BYTES:
        raise SkillFailed(f"{file.name} must be an image of at most {MAX_IMAGE_BYTES >> 20} MiB.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Picture.DecompressionBombWarning)
            with Picture.open(file, formats=FORMATS) as image:
                size: tuple[int, int] = image.size
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):
        raise SkillFailed(f"{file.name} is no image of {', '.join(FORMATS)}.") from None
    if size[0] * size[1] > MAX_PIXELS or 0 in size:
        raise SkillFailed(f"{file.name} has more than {MAX_PIXELS // 1_000_000} million pixels.")
    return size
