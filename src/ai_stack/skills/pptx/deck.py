"""Slides set on a 16 : 9 page: every text as large as its box allows, and never larger."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image
from pptx import Presentation
from pptx.dml.color import ColorFormat
from pptx.enum.dml import MSO_THEME_COLOR
from pptx.enum.text import MSO_ANCHOR, MSO_AUTO_SIZE, PP_ALIGN
from pptx.oxml.ns import qn
from pptx.presentation import Presentation as Deck
from pptx.shapes.autoshape import Shape
from pptx.slide import Slide as DeckSlide
from pptx.util import Emu, Pt

from ai_stack.skill import SkillFailed

from .metrics import LINE, height, lines
from .slides import Bullets, Columns, Opening, Picture, Quote, Slide, Table

WIDTH, HEIGHT, EDGE = 960.0, 540.0, 48.0  # points
TITLE_TOP, TITLE_HEIGHT, BODY_TOP, BODY_HEIGHT = 30.0, 76.0, 120.0, 384.0
INSET, GAP, INDENT = 7.2, 6.0, 22.0
LARGEST, SMALLEST, TITLE_SMALLEST, CELL_SMALLEST = 28, 14, 16, 10
TITLE_ONLY, TITLE_AND_BODY, TITLE_SLIDE = 5, 1, 0
FORMATS, MAX_PIXELS, MAX_IMAGE_BYTES = ("PNG", "JPEG", "GIF", "BMP", "TIFF"), 100_000_000, 32 << 20
Box = tuple[float, float, float, float]
BODY: Box = (EDGE, BODY_TOP, WIDTH - 2 * EDGE, BODY_HEIGHT)


def empty() -> Deck:
    """A presentation without slides, 16 : 9, whose layouts are stretched to that."""
    deck = Presentation()
    stretch = Pt(WIDTH) / deck.slide_width
    deck.slide_width, deck.slide_height = Pt(WIDTH), Pt(HEIGHT)
    for holder in (deck.slide_master, *deck.slide_layouts):
        for shape in holder.shapes:
            if shape.width:
                shape.left, shape.width = int(shape.left * stretch), int(shape.width * stretch)
                shape.top, shape.height = _squeezed(shape.top), _squeezed(shape.height)
    return deck


def _squeezed(length: int) -> int:
    return int(length * HEIGHT / 540)


class Setter:
    """Sets slides at the end of a presentation, in its fonts."""

    def __init__(self, deck: Deck, images: Mapping[str, Path], fonts: tuple[str, str]) -> None:
        self.deck, self.images = deck, images
        self.heading, self.body = fonts

    def set(self, slide: Slide) -> None:
        """Add a slide, and further ones for what does not fit on it."""
        match slide:
            case Opening():
                self._opening(slide)
            case Bullets():
                self._bullets(slide)
            case Columns():
                self._columns(slide)
            case Table():
                self._table(slide)
            case Picture():
                self._picture(slide)
            case Quote():
                self._quote(slide)
        if slide.notes:
            write_notes(self.deck.slides[-1], slide.notes)

    def _opening(self, slide: Opening) -> None:
        new = self.deck.slides.add_slide(self.deck.slide_layouts[TITLE_SLIDE])
        title: Box = (EDGE * 1.5, 130, WIDTH - EDGE * 3, 150)
        self._write(title_of(new), title, [slide.title], 44, self.heading, bold=True)
        title_of(new).text_frame.vertical_anchor = MSO_ANCHOR.BOTTOM
        below: Box = (EDGE * 1.5, 292, WIDTH - EDGE * 3, 110)
        if slide.subtitle:
            self._write(new.placeholders[1], below, [slide.subtitle], 24, self.body)
        else:
            _remove(new.placeholders[1])

    def _titled(self, title: str, layout: int) -> DeckSlide:
        new: DeckSlide = self.deck.slides.add_slide(self.deck.slide_layouts[layout])
        box: Box = (EDGE, TITLE_TOP, WIDTH - 2 * EDGE, TITLE_HEIGHT)
        shape = title_of(new)
        self._write(shape, box, [title], 32, self.heading, bold=True)
        shape.text_frame.vertical_anchor = MSO_ANCHOR.MIDDLE
        _aligned(shape, PP_ALIGN.LEFT)
        return new

    def _bullets(self, slide: Bullets) -> None:
        parts = list(parted(slide.bullets, BODY, self.body)) or [[]]
        for n, points in enumerate(parts, 1):
            title = f"{slide.title} ({n})" if n > 1 else slide.title
            new = self._titled(title, TITLE_AND_BODY)
            self.points(new.placeholders[1], BODY, points)

    def _columns(self, slide: Columns) -> None:
        half = (WIDTH - 2 * EDGE - 24) / 2
        boxes: list[Box] = [
            (EDGE, BODY_TOP, half, BODY_HEIGHT),
            (EDGE + half + 24, BODY_TOP, half, BODY_HEIGHT),
        ]
        left = list(parted(slide.left, boxes[0], self.body)) or [[]]
        right = list(parted(slide.right, boxes[1], self.body)) or [[]]
        for n in range(max(len(left), len(right))):
            new = self._titled(f"{slide.title} ({n + 1})" if n else slide.title, TITLE_ONLY)
            for box, column in zip(boxes, (left, right), strict=True):
                if n < len(column) and column[n]:
                    self.points(_box(new, box), box, column[n], dots=True)

    def points(self, shape: Shape, box: Box, points: Sequence[str], *, dots: bool = False) -> None:
        """Put points into a shape, all of one size that fits."""
        _place(shape, box)
        size = fitting(points, box, self.body, LARGEST, SMALLEST) or SMALLEST
        frame = _frame(shape)
        for n, point in enumerate(points):
            paragraph = frame.paragraphs[0] if n == 0 else frame.add_paragraph()
            level = level_of(point)
            run = paragraph.add_run()
            run.text = plain(("• " if dots else "") + point.strip())
            run.font.size, run.font.name = Pt(size_of(size, level)), self.body
            paragraph.level, paragraph.space_before = level, Pt(GAP)
            paragraph.line_spacing = 1.0
            if not dots:
                _indent(paragraph, level)

    def _table(self, slide: Table) -> None:
        columns = max(len(row) for row in slide.rows)
        rows = [[*row, *[""] * (columns - len(row))] for row in slide.rows]
        room = (WIDTH - 2 * EDGE) / columns - 2 * INSET
        size = next((s for s in range(18, CELL_SMALLEST, -1) if self._high(rows, s, room)), None)
        size = size or CELL_SMALLEST
        for n, part in enumerate(self._row_groups(rows, size, room), 1):
            title = f"{slide.title} ({n})" if n > 1 else slide.title
            self._draw_table(self._titled(title, TITLE_ONLY), part, size, room)

    def _high(self, rows: Sequence[Sequence[str]], size: int, room: float) -> bool:
        return sum(self._row_height(row, size, room) for row in rows) <= BODY_HEIGHT

    def _row_height(self, row: Sequence[str], size: float, room: float) -> float:
        return max(height([plain(t)], self.body, size, room, True) for t in row) + 2 * INSET

    def _row_groups(
        self, rows: list[list[str]], size: int, room: float
    ) -> Iterator[list[list[str]]]:
        head, part = rows[0], [rows[0]]
        for row in rows[1:]:
            if self._row_height(row, size, room) + self._row_height(head, size, room) > BODY_HEIGHT:
                raise SkillFailed(f"A cell is too long for a slide: {row[0][:60]!r}.")
            if not self._high([*part, row], size, room):
                yield part
                part = [head]
            part.append(row)
        if not self._high(part, size, room):
            raise SkillFailed(f"A cell is too long for a slide: {head[0][:60]!r}.")
        yield part

    def _draw_table(
        self, new: DeckSlide, rows: Sequence[Sequence[str]], size: int, room: float
    ) -> None:
        heights = [self._row_height(row, size, room) for row in rows]
        place = [Pt(v) for v in (EDGE, BODY_TOP, WIDTH - 2 * EDGE, sum(heights))]
        table = new.shapes.add_table(len(rows), len(rows[0]), *place).table
        for n, row in enumerate(rows):
            table.rows[n].height = Pt(heights[n])
            for m, text in enumerate(row):
                cell = table.cell(n, m)
                cell.margin_left = cell.margin_right = Pt(INSET)
                cell.margin_top = cell.margin_bottom = Pt(INSET)
                run = cell.text_frame.paragraphs[0].add_run()
                run.text, run.font.size, run.font.name = plain(text), Pt(size), self.body
                run.font.bold = n == 0

    def _picture(self, slide: Picture) -> None:
        if slide.image not in self.images:
            raise SkillFailed(f"The image {slide.image[:80]!r} is not in `images`.")
        file = self.images[slide.image]
        across, down = _size(file)
        new = self._titled(slide.title, TITLE_ONLY)
        room = BODY_HEIGHT - (48 if slide.caption else 0)
        scale = min((WIDTH - 2 * EDGE) / across, room / down)
        left = (WIDTH - across * scale) / 2
        place = [Pt(v) for v in (left, BODY_TOP, across * scale, down * scale)]
        picture = new.shapes.add_picture(str(file), *place)
        described = next(picture._element.iter(qn("p:cNvPr")))
        described.set("descr", plain(slide.caption or slide.title))
        if slide.caption:
            box: Box = (EDGE, BODY_TOP + room + 4, WIDTH - 2 * EDGE, 44)
            self._write(_box(new, box), box, [slide.caption], 16, self.body)

    def _quote(self, slide: Quote) -> None:
        new = self._titled(slide.title, TITLE_ONLY)
        box: Box = (EDGE * 2, BODY_TOP, WIDTH - EDGE * 4, BODY_HEIGHT - 60)
        shape = _box(new, box)
        self._write(shape, box, [f"“{slide.text}”"], 32, self.body)
        shape.text_frame.vertical_anchor = MSO_ANCHOR.MIDDLE
        if slide.by:
            below: Box = (EDGE * 2, BODY_TOP + BODY_HEIGHT - 56, WIDTH - EDGE * 4, 50)
            self._write(_box(new, below), below, [f"— {slide.by}"], 18, self.body)

    def _write(
        self,
        shape: Shape,
        box: Box,
        texts: Sequence[str],
        largest: int,
        font: str,
        bold: bool = False,
    ) -> None:
        _place(shape, box)
        smallest = min(TITLE_SMALLEST, largest) - 4
        size = fitting(texts, box, font, largest, smallest, bold, gap=0)
        if size is None:
            raise SkillFailed(f"This text is too long for its place: {texts[0][:60]!r}.")
        run = _frame(shape).paragraphs[0].add_run()
        run.text, run.font.size, run.font.name, run.font.bold = (
            plain(texts[0]),
            Pt(size),
            font,
            bold,
        )
        _themed(run.font.color)


def title_of(slide: DeckSlide) -> Shape:
    """The place of a slide's title; SkillFailed where its layout has none."""
    found = slide.shapes.title
    if found is None:
        raise SkillFailed("This presentation's layouts have no place for titles.")
    return found


def write_notes(slide: DeckSlide, text: str) -> None:
    """What the speaker sees."""
    frame = slide.notes_slide.notes_text_frame
    if frame is None:
        raise SkillFailed("This presentation's notes have no place for text.")
    frame.text = plain(text)


def fitting(
    points: Sequence[str],
    box: Box,
    font: str,
    largest: int,
    smallest: int,
    bold: bool = False,
    gap: float = GAP,
) -> int | None:
    """The largest size at which texts fit into a box; None if none does."""
    for size in range(largest, smallest - 1, -1):
        if tall(points, box, font, size, bold, gap) <= box[3] - 2 * INSET:
            return size
    return None


def tall(
    points: Sequence[str], box: Box, font: str, size: float, bold: bool = False, gap: float = GAP
) -> float:
    """How high points are in a box, at a size."""
    total = 0.0
    for point in points:
        level = level_of(point) if gap else 0
        room = box[2] - 2 * INSET - (INDENT * (level + 1) if gap else 0)
        own = size_of(size, level)
        total += height([plain(point.strip())], font, own, room, bold) + gap
    return total


def parted(points: Sequence[str], box: Box, font: str) -> Iterator[list[str]]:
    """Points in groups that fit into a box at the smallest size; a long one is broken at a word."""
    part: list[str] = []
    for point in (piece for one in points for piece in _pieces(one, box, font)):
        if part and tall([*part, point], box, font, SMALLEST) > box[3] - 2 * INSET:
            yield part
            part = []
        part.append(point)
    if part:
        yield part


def _pieces(point: str, box: Box, font: str) -> Iterator[str]:
    if tall([point], box, font, SMALLEST) <= box[3] - 2 * INSET:
        yield point
        return
    level = level_of(point)
    size = size_of(SMALLEST, level)
    room = box[2] - 2 * INSET - INDENT * (level + 1)
    found = lines(plain(point.strip()), font, size, room)
    at_once = int((box[3] - 2 * INSET - GAP) / (size * LINE))
    for n in range(0, len(found), at_once):
        yield "  " * level + " ".join(found[n : n + at_once])


def level_of(point: str) -> int:
    """How deep a point stands, by its leading spaces."""
    return min((len(point) - len(point.lstrip(" "))) // 2, 4)


def size_of(size: float, level: int) -> float:
    """The size of a point, smaller the deeper it stands."""
    return max(12.0, size - 2 * level)


def plain(text: str) -> str:
    """Without signs that XML cannot hold."""
    return "".join(sign for sign in text if sign >= " " or sign in "\n\t")


def _frame(shape: Shape):  # type: ignore[no-untyped-def]
    frame = shape.text_frame
    frame.word_wrap, frame.auto_size = True, MSO_AUTO_SIZE.NONE
    frame.margin_left = frame.margin_right = frame.margin_top = frame.margin_bottom = Pt(INSET)
    return frame


def _place(shape: Shape, box: Box) -> None:
    shape.left, shape.top, shape.width, shape.height = (Emu(int(Pt(v))) for v in box)


def _box(slide: DeckSlide, box: Box) -> Shape:
    return slide.shapes.add_textbox(*(Emu(int(Pt(v))) for v in box))


def _indent(paragraph, level: int) -> None:  # type: ignore[no-untyped-def]
    """A hanging indent, as it was measured."""
    properties = paragraph._p.get_or_add_pPr()
    properties.set("marL", str(int(Pt(INDENT * (level + 1)))))
    properties.set("indent", str(-int(Pt(INDENT))))


def _aligned(shape: Shape, align: PP_ALIGN) -> None:
    for paragraph in shape.text_frame.paragraphs:
        paragraph.alignment = align


def _themed(color: ColorFormat) -> None:
    color.theme_color = MSO_THEME_COLOR.TEXT_1


def _remove(shape: Shape) -> None:
    shape._element.getparent().remove(shape._element)


def _size(file: Path) -> tuple[int, int]:
    if not file.is_file() or file.stat().st_size > MAX_IMAGE_BYTES:
        raise SkillFailed(f"{file.name} must be an image of at most {MAX_IMAGE_BYTES >> 20} MiB.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                size: tuple[int, int] = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise SkillFailed(f"{file.name} is no image of {', '.join(FORMATS)}.") from None
    if size[0] * size[1] > MAX_PIXELS or 0 in size:
        raise SkillFailed(f"{file.name} has more than {MAX_PIXELS // 1_000_000} million pixels.")
    return size
