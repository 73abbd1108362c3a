"""Words taken out of a PDF for good.

A page with a find is drawn anew as a picture with black boxes; the other words lie under it as
invisible text. Other pages are copied with what they draw and nothing else of the file. What comes
out is searched again, and is given to nobody if a trace is left.
"""

# mypy: disable-error-code="import-untyped"

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import pypdfium2
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, Field
from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import (
    BooleanObject,
    ContentStream,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    StreamObject,
)
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from ai_stack.skill import SkillFailed

from .document import FAULTS, MAX_PAGES, flattened, reader_of, written
from .finding import NONE, SOFT, Box, Character, Search, characters
from .traces import traces

DPI, MAX_SIDE, PAD, GREY = 200, 6000, 0.0012, 12
BOXES = ("/MediaBox", "/CropBox", "/Rotate", "/UserUnit")
RESOURCES = ("/Font", "/ExtGState", "/ColorSpace", "/Pattern", "/Shading", "/ProcSet")
PRUNED = "/AIStackPruned"
FORGOTTEN = ("/Metadata", "/PieceInfo", "/StructParent", "/StructParents", "/LastModified")
LEFT = "A trace would be left in the file, so nothing is written; use `areas` or another word."


class Area(BaseModel):
    """A part of a page, in points from the upper left corner of the page as it is shown."""

    model_config = ConfigDict(extra="forbid")

    page: Annotated[int, Field(ge=1, le=MAX_PAGES)]
    x: float
    y: float
    width: Annotated[float, Field(gt=0)]
    height: Annotated[float, Field(gt=0)]


@dataclass(slots=True)
class Plan:
    """What is to be blacked out on one page."""

    marks: set[int] = field(default_factory=set)
    characters: Sequence[Character] = ()
    areas: list[Box] = field(default_factory=list)
    hidden: bool = False
    layered: bool = False

    @property
    def redrawn(self) -> bool:
        """Whether the page becomes a picture."""
        return bool(self.marks or self.areas or self.hidden or self.layered)


@dataclass(slots=True)
class Redacted:
    """The new file, and on which pages how many characters and areas are gone."""

    data: bytes
    pages: dict[int, int]
    without_text: list[int]


def redacted(data: bytes, search: Search, areas: Sequence[Area]) -> Redacted:
    """The file without what is looked for; SkillFailed if nothing is found or a trace is left."""
    data = flattened(data)
    reader = reader_of(data)
    try:
        with pypdfium2.PdfDocument(data) as document:
            plans = list(_plans(document, reader, search, areas))
            if not any(plan.marks or plan.areas or plan.hidden for plan in plans):
                raise SkillFailed("Nothing of that is in the file.")
            result = _rebuilt(document, reader, plans)
    except FAULTS:
        raise SkillFailed("This PDF is built so that it cannot be redacted safely.") from None
    if traces(result, search):
        raise SkillFailed(LEFT)
    gone = {n: len(p.marks) + len(p.areas) for n, p in enumerate(plans, 1) if p.redrawn}
    return Redacted(result, gone, [n for n, p in enumerate(plans, 1) if _unread(p.characters)])


def _plans(
    document: pypdfium2.PdfDocument, reader: PdfReader, search: Search, areas: Sequence[Area]
) -> Iterator[Plan]:
    if any(area.page > len(document) for area in areas):
        raise SkillFailed(f"An area is on a page that is not there; the file has {len(document)}.")
    for number in range(len(document)):
        page = document[number]
        width, height = page.get_size()
        found = characters(page)
        marks = search.marks(found)
        boxes = [_fraction(a, width, height) for a in areas if a.page == number + 1]
        inside = {n for n, c in enumerate(found) if any(_overlap(c.box, box) for box in boxes)}
        hidden = not marks and search.has(reader.pages[number].extract_text())
        yield Plan(marks | inside, found, boxes, hidden, _has_layers(reader.pages[number]))
        page.close()


def _has_layers(page: PageObject) -> bool:
    """Whether a page may have parts that are shown or hidden at will."""
    return "/Properties" in _part(page, "/Resources")


def _part(of: DictionaryObject, name: str) -> DictionaryObject:
    found = of.get(name, DictionaryObject()).get_object()
    return found if isinstance(found, DictionaryObject) else DictionaryObject()


def _rebuilt(document: pypdfium2.PdfDocument, reader: PdfReader, plans: Sequence[Plan]) -> bytes:
    writer = PdfWriter()
    for number, plan in enumerate(plans):
        if plan.redrawn:
            drawn = PdfReader(io.BytesIO(_drawn(document[number], plan)))
            writer.add_page(drawn.pages[0])
        else:
            _copy(writer, reader.pages[number])
    writer.metadata = None
    writer.compress_identical_objects(remove_unreferenced=True)
    return written(writer)


def _copy(writer: PdfWriter, page: PageObject) -> None:
    """A page with its content and what that draws, without notes, tags and all else."""
    new = writer.add_blank_page(page.mediabox.width, page.mediabox.height)
    for key in BOXES:
        if key in page:
            new[NameObject(key)] = page[key].clone(writer)
    content = page.get_contents()
    if content is None:
        return
    stream = DecodedStreamObject()
    stream.set_data(content.get_data())
    new[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    new[NameObject("/Resources")] = _drawn_resources(page, content).clone(writer)


def _drawn_resources(holder: DictionaryObject, content: ContentStream) -> DictionaryObject:
    """The resources of a page or form, of whose objects only those that it draws."""
    resources, kept = _part(holder, "/Resources"), DictionaryObject()
    for key in RESOURCES:
        if key in resources:
            kept[NameObject(key)] = resources.raw_get(key)
    used = {str(given[0]) for given, operator in content.operations if operator == b"Do" and given}
    objects = _part(resources, "/XObject")
    drawn = {NameObject(n): objects.raw_get(n) for n in objects if n in used}
    kept[NameObject("/XObject")] = DictionaryObject(drawn)
    for reference in drawn.values():
        _prune(reference.get_object())
    return kept


def _prune(form: object) -> None:
    """A form keeps of its resources what it draws; one that was pruned is left alone."""
    if not isinstance(form, StreamObject) or form.get("/Subtype") != "/Form":
        return
    for key in FORGOTTEN:
        form.pop(NameObject(key), None)
    if "/Resources" in form and PRUNED not in form:
        form[NameObject(PRUNED)] = BooleanObject(True)
        form[NameObject("/Resources")] = _drawn_resources(form, ContentStream(form, None))


def _drawn(page: pypdfium2.PdfPage, plan: Plan) -> bytes:
    """The page as a picture with its boxes, and the words that stay as invisible text."""
    width, height = page.get_size()
    scale = min(DPI / 72, MAX_SIDE / max(width, height))
    image = page.render(scale=scale, may_draw_forms=True).to_pil().convert("RGB")
    draw = ImageDraw.Draw(image)
    marked = [plan.characters[n].box for n in sorted(plan.marks)]
    for left, top, right, bottom in [*marked, *plan.areas]:
        corners = (left - PAD, top - PAD, right + PAD, bottom + PAD)
        draw.rectangle([c * image.size[n % 2] for n, c in enumerate(corners)], fill="black")
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(width, height), invariant=1)
    canvas.drawImage(ImageReader(_encoded(image)), 0, 0, width, height)
    for word, box in _words(plan):
        _write_invisibly(canvas, word, box, (width, height))
    canvas.showPage()
    canvas.save()
    return out.getvalue()


def _encoded(image: Image.Image) -> io.BytesIO:
    """Grey pages without loss, others as JPEG."""
    grey = image.convert("L")
    out = io.BytesIO()
    sample = image.resize((200, 200))
    bands = [band.tobytes() for band in sample.split()]
    if max(max(p) - min(p) for p in zip(*bands, strict=True)) < GREY:
        grey.save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=88)
    out.seek(0)
    return out


def _words(plan: Plan) -> Iterator[tuple[str, Box]]:
    """The words that stay, with their boxes; what is marked parts them."""
    word = ""
    boxes: list[Box] = []
    for n, character in enumerate([*plan.characters, Character(" ", (0, 0, 0, 0))]):
        if character.sign.isspace() or n in plan.marks or character.sign == NONE:
            if word:
                yield word, _around(boxes)
            word, boxes = "", []
            continue
        word += character.sign.replace(SOFT, "-")
        boxes.append(character.box)


def _write_invisibly(canvas: Canvas, word: str, box: Box, size: tuple[float, float]) -> None:
    if word.encode("cp1252", "ignore").decode("cp1252") != word:
        return
    left, top, right, bottom = box
    height = max((bottom - top) * size[1], 1.0)
    natural = stringWidth(word, "Helvetica", height) or 1.0
    text = canvas.beginText(left * size[0], (1 - bottom) * size[1] + height * 0.2)
    text.setTextRenderMode(3)
    text.setFont("Helvetica", height)
    text.setHorizScale(max(1.0, 100 * (right - left) * size[0] / natural))
    text.textOut(word + " ")
    canvas.drawText(text)


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _unread(found: Sequence[Character]) -> bool:
    """Whether a page has no text that means something."""
    known = sum(c.sign != NONE for c in found)
    return known * 5 < len(found) * 4 or not known


def _fraction(area: Area, width: float, height: float) -> Box:
    left, top = area.x / width, area.y / height
    return left, top, left + area.width / width, top + area.height / height


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
