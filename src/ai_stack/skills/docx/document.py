"""A new document around its blocks: title, page, header, footer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from docx import Document
from docx.document import Document as Docx
from docx.enum.section import WD_ORIENT
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph as DocxParagraph

from .blocks import Block
from .writing import CONTROL, Writer, add_styles

FIELDS = {"{page}": "PAGE", "{pages}": "NUMPAGES"}


def created(blocks: Sequence[Block], images: Mapping[str, Path], *, landscape: bool) -> Docx:
    """A document of these blocks."""
    document = Document()
    add_styles(document)
    section = document.sections[0]
    if landscape:
        section.orientation = WD_ORIENT.LANDSCAPE
        section.page_width, section.page_height = section.page_height, section.page_width
    Writer(document, images).write(blocks)
    return document


def describe(document: Docx, title: str, author: str) -> None:
    """Set the properties that file managers show."""
    properties = document.core_properties
    properties.title, properties.author = title.translate(CONTROL), author.translate(CONTROL)
    properties.comments = ""


def set_margins(document: Docx, header: str, footer: str) -> None:
    """What stands above and below each page; `{page}` and `{pages}` are counted by Word."""
    section = document.sections[0]
    for part, text in ((section.header, header), (section.footer, footer)):
        if text:
            _write_fields(part.paragraphs[0], text.translate(CONTROL))


def _write_fields(paragraph: DocxParagraph, text: str) -> None:
    while text:
        places = {text.find(mark): mark for mark in FIELDS if mark in text}
        if not places:
            paragraph.add_run(text)
            return
        place = min(places)
        paragraph.add_run(text[:place])
        _write_field(paragraph, FIELDS[places[place]])
        text = text[place + len(places[place]) :]


def _write_field(paragraph: DocxParagraph, instruction: str) -> None:
    field = OxmlElement("w:fldSimple")
    field.set(qn("w:instr"), instruction)
    run = paragraph.add_run("1")
    field.append(run._r)
    paragraph._p.append(field)
