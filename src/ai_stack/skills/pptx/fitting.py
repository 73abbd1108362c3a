"""Whether text stays in its box in any presentation, and how to make it stay."""

from collections.abc import Iterator
from dataclasses import dataclass

from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.oxml.ns import qn
from pptx.presentation import Presentation as Deck
from pptx.shapes.autoshape import Shape
from pptx.shapes.base import BaseShape
from pptx.slide import Slide
from pptx.util import Pt

from ai_stack.skill import JSON

from .metrics import LINE, lines
from .themes import fonts_of

EMU, TOLERANCE, SMALLEST = 12_700, 1.0, 8.0
TITLES = (PP_PLACEHOLDER.TITLE, PP_PLACEHOLDER.CENTER_TITLE)


@dataclass(frozen=True, slots=True)
class Problem:
    """A text or a shape that is where it should not be; by how many points."""

    slide: int
    shape: str
    what: str
    by: float

    def told(self) -> dict[str, JSON]:
        """As JSON."""
        return {"slide": self.slide, "shape": self.shape, "what": self.what, "points": self.by}


def problems(deck: Deck) -> list[Problem]:
    """Texts that leave their boxes, shapes that leave their slides."""
    measure = Measure(deck)
    return [p for n, slide in enumerate(deck.slides, 1) for p in measure.problems(n, slide)]


def fit(deck: Deck) -> int:
    """Set texts smaller that leave their boxes; how many."""
    measure, count = Measure(deck), 0
    for slide in deck.slides:
        for shape in _texts(slide):
            if measure.excess(shape) > TOLERANCE:
                measure.shrink(shape)
                count += 1
    return count


class Measure:
    """Measures the texts of one presentation, by what they inherit from its masters."""

    def __init__(self, deck: Deck) -> None:
        self.deck = deck
        self.heading, self.body = fonts_of(deck)

    def problems(self, number: int, slide: Slide) -> Iterator[Problem]:
        """What is wrong on one slide."""
        for shape in slide.shapes:
            over = self._over_slide(shape)
            if over > TOLERANCE:
                yield Problem(number, shape.name, "the shape leaves the slide", round(over, 1))
        for shape in _texts(slide):
            over = self.excess(shape)
            if over > TOLERANCE:
                yield Problem(number, shape.name, "the text leaves its box", round(over, 1))

    def _over_slide(self, shape: BaseShape) -> float:
        if None in (shape.left, shape.top, shape.width, shape.height):
            return 0.0
        right = shape.left + shape.width - int(self.deck.slide_width or 0)
        bottom = shape.top + shape.height - int(self.deck.slide_height or 0)
        return float(max(-shape.left, -shape.top, right, bottom)) / EMU

    def excess(self, shape: Shape) -> float:
        """By how many points a text is higher than its box has room.

        A box that grows with its text has room down to the end of the slide.
        """
        frame = shape.text_frame
        high = int(shape.height)
        if frame._txBody.bodyPr.find(qn("a:spAutoFit")) is not None:
            high = int(self.deck.slide_height or 0) - int(shape.top)
        room = (high - frame.margin_top - frame.margin_bottom) / EMU
        return self.height(shape) - float(room)

    def height(self, shape: Shape) -> float:
        """The height of a shape's text in points."""
        frame = shape.text_frame
        room = (shape.width - frame.margin_left - frame.margin_right) / EMU
        total = 0.0
        for paragraph in frame.paragraphs:
            properties = paragraph._p.pPr
            margin = int(properties.get("marL", 0)) / EMU if properties is not None else 0
            size, font, bold = self._look(shape, paragraph)
            count = len(lines(paragraph.text, font, size, max(room - margin, size), bold))
            spacing = paragraph.line_spacing if isinstance(paragraph.line_spacing, float) else 1.0
            total += count * size * LINE * spacing
            total += sum(s.pt for s in (paragraph.space_before, paragraph.space_after) if s)
        return total

    def _look(self, shape: Shape, paragraph) -> tuple[float, str, bool]:  # type: ignore[no-untyped-def]
        """The size, the font and the weight of a paragraph: those of its largest run."""
        inherited = self._inherited(shape, paragraph.level)
        runs = [run for run in paragraph.runs if run.text] or list(paragraph.runs)
        size = max(
            (run.font.size.pt if run.font.size else inherited for run in runs), default=inherited
        )
        names = [run.font.name for run in runs if run.font.name and run.font.name[0] != "+"]
        font = names[0] if names else (self.heading if is_title(shape) else self.body)
        return size, font, any(run.font.bold for run in runs)

    def _inherited(self, shape: Shape, level: int) -> float:
        """The size that a shape has from its layout, its master, or by default."""
        tag = qn(f"a:lvl{level + 1}pPr")
        for holder in self._holders(shape):
            for properties in holder.iter(tag):
                found = properties.find(qn("a:defRPr"))
                if found is not None and found.get("sz"):
                    return int(found.get("sz")) / 100
        return 18.0

    def _holders(self, shape: Shape) -> Iterator:  # type: ignore[type-arg]
        style = shape._element.find(f"{qn('p:txBody')}/{qn('a:lstStyle')}")
        if style is not None:
            yield style
        if not shape.is_placeholder:
            return
        given = shape.placeholder_format
        layout = shape.part.slide.slide_layout if hasattr(shape.part, "slide") else None
        for place in layout.placeholders if layout is not None else ():
            if place.placeholder_format.idx == given.idx:
                yield place._element
        styles = self.deck.slide_master._element.find(qn("p:txStyles"))
        if styles is not None:
            found = styles.find(qn("p:titleStyle" if is_title(shape) else "p:bodyStyle"))
            if found is not None:
                yield found

    def shrink(self, shape: Shape) -> None:
        """Set a text smaller, step by step, until it fits or is at 8 points."""
        for _ in range(60):
            if self.excess(shape) <= 0:
                return
            largest = 0.0
            for paragraph in shape.text_frame.paragraphs:
                inherited = self._inherited(shape, paragraph.level)
                for run in paragraph.runs:
                    size = run.font.size.pt if run.font.size else inherited
                    run.font.size = Pt(max(SMALLEST, size - 1))
                    largest = max(largest, size)
            if largest <= SMALLEST:
                return


def is_title(shape: Shape) -> bool:
    """Whether a shape is the title of its slide."""
    return bool(shape.is_placeholder and shape.placeholder_format.type in TITLES)


def _texts(slide: Slide) -> Iterator[Shape]:
    """The shapes whose text is broken into lines by a box."""
    for shape in slide.shapes:
        if not isinstance(shape, Shape) or not shape.text_frame.text.strip() or not shape.height:
            continue
        if shape.text_frame._txBody.bodyPr.get("wrap") != "none":
            yield shape
