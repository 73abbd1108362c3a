"""Blocks written into a Word document; where in it is the caller's affair."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from docx.document import Document as Docx
from docx.enum.style import WD_STYLE_TYPE
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_BREAK
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.shared import Cm, Pt
from docx.table import Table as DocxTable
from docx.text.paragraph import Paragraph as DocxParagraph
from docx.text.run import Run

from ai_stack.skill import SkillFailed

from .blocks import Block, Code, Heading, Image, ListOf, PageBreak, Paragraph, Table
from .inline import Span, parsed
from .pictures import named

MONO, CODE, GRID = "Courier New", "Code", "Table Grid"
STYLES = {"normal": "Normal", "quote": "Quote", "caption": "Caption"}
ALIGN = {
    "center": WD_ALIGN_PARAGRAPH.CENTER,
    "right": WD_ALIGN_PARAGRAPH.RIGHT,
    "justify": WD_ALIGN_PARAGRAPH.JUSTIFY,
}
DEEPEST = 3
CONTROL = {code: None for code in range(32) if code not in (9, 10)}


class Writer:
    """Writes blocks at the end of a document."""

    def __init__(self, document: Docx, images: Mapping[str, Path]) -> None:
        self.document, self.images = document, images
        self.styles = {str(style.name): style.style_id for style in document.styles}

    def write(self, blocks: Iterable[Block]) -> list[BaseOxmlElement]:
        """Append blocks; the elements that they became, in order."""
        body = self.document.element.body
        before = set(body)
        for block in blocks:
            self._block(block)
        return [element for element in body if element not in before]

    def _block(self, block: Block) -> None:
        match block:
            case Heading():
                write_text(self._paragraph(_heading_style(block.level)), block.text)
            case Paragraph():
                paragraph = self._paragraph(STYLES[block.style])
                paragraph.paragraph_format.alignment = ALIGN.get(block.align)
                write_text(paragraph, block.text)
            case ListOf():
                self._list(block)
            case Table():
                self._table(block)
            case Image():
                self._image(block)
            case Code():
                self._paragraph(CODE).add_run(block.text.translate(CONTROL))
            case PageBreak():
                self.document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)

    def _paragraph(self, style: str) -> DocxParagraph:
        """A new paragraph; documents of other hands may lack a style."""
        paragraph = self.document.add_paragraph()
        paragraph._p.style = self.styles.get(style)
        return paragraph

    def _list(self, block: ListOf) -> None:
        kind = "List Number" if block.ordered else "List Bullet"
        numbers: dict[str, int] = {}
        for item in block.items:
            level = min((len(item) - len(item.lstrip(" "))) // 2, DEEPEST - 1)
            style = f"{kind} {level + 1}" if level else kind
            paragraph = self._paragraph(style)
            write_text(paragraph, item.strip())
            if style not in numbers and (found := _counting_anew(self.document, paragraph)):
                numbers[style] = found
            if style in numbers:
                _number(paragraph, numbers[style])
            for deeper in [s for s in numbers if _depth(s) > level]:
                del numbers[deeper]

    def _table(self, block: Table) -> None:
        width = max(len(row) for row in block.rows)
        table = self.document.add_table(len(block.rows), width)
        table._tbl.tblStyle_val = self.styles.get(GRID)
        for element, row in zip(table._tbl.tr_lst, block.rows, strict=True):
            for cell, text in zip(element.tc_lst, row, strict=False):
                write_text(DocxParagraph(cell.p_lst[0], table), text)
        if block.header:
            mark_header(table)
        self.document.add_paragraph()

    def _image(self, block: Image) -> None:
        file = named(self.images, block.file)
        section = self.document.sections[-1]
        widest = int(section.page_width or 0) - int(section.left_margin or 0)
        widest -= int(section.right_margin or 0)
        asked = Cm(block.width_cm) if block.width_cm else None
        try:
            picture = self.document.add_paragraph().add_run().add_picture(str(file), width=asked)
        except (ValueError, KeyError, ZeroDivisionError):
            raise SkillFailed(f"{block.file} is an image that Word cannot show.") from None
        if widest > 0 and picture.width > widest:
            picture.height = type(picture.height)(picture.height * widest // picture.width)
            picture.width = type(picture.width)(widest)
        picture._inline.docPr.set("descr", block.alt)


def write_text(paragraph: DocxParagraph, text: str) -> None:
    """A text with inline marks, as runs and links."""
    for span in parsed(text.translate(CONTROL)):
        _look(_link(paragraph, span) if span.link else paragraph.add_run(span.text), span)


def mark_header(table: DocxTable) -> None:
    """The first row in bold, repeated on each page."""
    row = table.rows[0]._tr
    row.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
    for cell in row.tc_lst:
        for run in DocxParagraph(cell.p_lst[0], table).runs:
            run.bold = True


def add_styles(document: Docx) -> None:
    """A style for code, which Word's own set lacks."""
    if CODE not in {style.name for style in document.styles}:
        style = document.styles.add_style(CODE, WD_STYLE_TYPE.PARAGRAPH)
        style.font.name, style.font.size = MONO, Pt(9.5)


def _heading_style(level: int) -> str:
    return "Title" if level == 0 else f"Heading {level}"


def _look(run: Run, span: Span) -> None:
    run.bold = span.bold or None
    run.italic = span.italic or None
    if span.code:
        run.font.name = MONO
    if span.link:
        run.underline = True


def _link(paragraph: DocxParagraph, span: Span) -> Run:
    link = OxmlElement("w:hyperlink")
    link.set(
        qn("r:id"),
        paragraph.part.relate_to(span.link, RELATIONSHIP_TYPE.HYPERLINK, is_external=True),
    )
    run = paragraph.add_run(span.text)
    link.append(run._r)
    paragraph._p.append(link)
    return run


def _depth(style: str) -> int:
    last = style.rsplit(" ", 1)[-1]
    return int(last) - 1 if last.isdigit() else 0


def _counting_anew(document: Docx, paragraph: DocxParagraph) -> int | None:
    """A numbering of its own for a list, so that it does not go on where the last one ended."""
    style = paragraph.style
    settings = style.element.pPr if style is not None else None
    if settings is None or settings.numPr is None or settings.numPr.numId is None:
        return None
    numbering = document.part.numbering_part.element
    general = numbering.num_having_numId(settings.numPr.numId.val).abstractNumId.val
    number = numbering.add_num(general)
    number.add_lvlOverride(0).add_startOverride(1)
    return int(number.numId)


def _number(paragraph: DocxParagraph, number: int) -> None:
    properties = paragraph._p.get_or_add_pPr().get_or_add_numPr()
    properties.get_or_add_numId().val = number
    properties.get_or_add_ilvl().val = 0
