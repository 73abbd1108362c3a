"""A Word document as blocks: the form that `create` takes."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from docx.document import Document as Docx
from docx.oxml.ns import qn
from docx.oxml.table import CT_Row
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.parts.document import DocumentPart
from docx.table import Table as DocxTable
from docx.text.hyperlink import Hyperlink
from docx.text.paragraph import Paragraph as DocxParagraph
from docx.text.run import Run

from ai_stack.skill import JSON

from .blocks import (
    MAX_BLOCKS,
    Align,
    Block,
    Code,
    Heading,
    Image,
    ListOf,
    PageBreak,
    Paragraph,
    Table,
)
from .inline import Span, marked
from .writing import ALIGN, CODE, MONO

EMU_A_CM = 360_000
HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
LIST = re.compile(r"list (bullet|number|paragraph)(?: (\d))?", re.IGNORECASE)
BLIP, EMBED, EXTENT, PROPERTIES = qn("a:blip"), qn("r:embed"), qn("wp:extent"), qn("wp:docPr")
PARAGRAPHS = {"quote": "quote", "intense quote": "quote", "caption": "caption"}
ALIGNED: dict[object, Align] = {v: k for k, v in ALIGN.items()}  # type: ignore[misc]


@dataclass(slots=True)
class Reading:
    """What was found; `cut` tells that there was more than the bound."""

    blocks: list[Block] = field(default_factory=list)
    images: list[dict[str, JSON]] = field(default_factory=list)
    cut: bool = False


class Reader:
    """Reads a document; images are written where `place` says, nowhere without it."""

    def __init__(self, document: Docx, place: Callable[[str], Path] | None) -> None:
        self.document, self.place = document, place
        self.found = Reading()
        self.files: dict[str, str] = {}
        self.last_list = ""
        self.styles = {style.style_id: str(style.name) for style in document.styles}

    def read(self) -> Reading:
        """Every block of the main text, in its order."""
        for item in self.document.iter_inner_content():
            if len(self.found.blocks) >= MAX_BLOCKS:
                self.found.cut = True
                break
            if isinstance(item, DocxTable):
                self._table(item)
            else:
                self._paragraph(item)
        return self.found

    def _paragraph(self, paragraph: DocxParagraph) -> None:
        style = self.styles.get(paragraph._p.style or "", "")
        text = marked(spans(paragraph))
        if style.lower() == CODE.lower():
            self._add(Code(text=paragraph.text))
        elif kind := _list_kind(paragraph, style):
            self._item(paragraph, style, kind, text)
        elif text.strip():
            self._add(_prose(paragraph, style, text))
        self._pictures(paragraph)
        if any(b.get(qn("w:type")) == "page" for b in paragraph._p.iter(qn("w:br"))):
            self._add(PageBreak())

    def _add(self, block: Block) -> None:
        self.last_list = ""
        self.found.blocks.append(block)

    def _item(self, paragraph: DocxParagraph, style: str, kind: str, text: str) -> None:
        """An item goes to the list before it, where that is the same one."""
        if not text.strip():
            return
        level = _level(paragraph, style)
        ordered = kind == "number"
        mark = f"{ordered} {_number(paragraph)}" if level == 0 else self.last_list
        last = self.found.blocks[-1] if self.found.blocks else None
        line = "  " * level + text.strip()
        if isinstance(last, ListOf) and self.last_list and mark == self.last_list:
            last.items.append(line)
            return
        self._add(ListOf(items=[line], ordered=ordered))
        self.last_list = mark or f"{ordered} {_number(paragraph)}"

    def _table(self, table: DocxTable) -> None:
        elements = table._tbl.tr_lst
        header = bool(elements) and elements[0].find(f".//{qn('w:tblHeader')}") is not None
        rows = [list(_cells(e, table, plain=header and not n)) for n, e in enumerate(elements)]
        rows = [row for row in rows if row]
        if rows:
            self._add(Table.model_construct(type="table", rows=rows, header=header))
        for element in table._tbl.iter(qn("w:p")):
            self._pictures(DocxParagraph(element, table))

    def _pictures(self, paragraph: DocxParagraph) -> None:
        for drawing in paragraph._p.iter(qn("w:drawing")):
            blip = next(drawing.iter(BLIP), None)
            if blip is None:
                continue
            part = self.document.part.related_parts.get(blip.get(EMBED, ""))
            if part is not None:
                self._add(_image(drawing, self._file(str(part.partname), part.blob)))

    def _file(self, part_name: str, blob: bytes) -> str:
        """The image as an artifact, once for all its places."""
        if part_name not in self.files:
            name = Path(part_name).name
            if self.place is not None:
                path = self.place(name)
                path.write_bytes(blob)
                name = path.name
            self.files[part_name] = name
            told = {"file": name, "sha256": hashlib.sha256(blob).hexdigest()}
            self.found.images.append({**told, "size_bytes": len(blob)})
        return self.files[part_name]


def spans(paragraph: DocxParagraph) -> Iterator[Span]:
    """A paragraph's text by its looks."""
    for item in paragraph.iter_inner_content():
        if isinstance(item, Hyperlink):
            for run in item.runs:
                yield _span(run, item.url)
        else:
            yield _span(item, "")


def _span(run: Run, link: str) -> Span:
    code = run.font.name == MONO
    known = link if link.startswith(("http://", "https://", "mailto:")) else ""
    return Span(run.text, bool(run.bold), bool(run.italic), code, known)


def _prose(paragraph: DocxParagraph, style: str, text: str) -> Block:
    text = text.strip("\n")
    if found := HEADING.fullmatch(style):
        return Heading(text=text, level=int(found[1]))
    if style.lower() == "title":
        return Heading(text=text, level=0)
    named = PARAGRAPHS.get(style.lower(), "normal")
    align = ALIGNED.get(paragraph.alignment, "left")
    return Paragraph.model_construct(type="paragraph", text=text, style=named, align=align)


def _list_kind(paragraph: DocxParagraph, style: str) -> str:
    """`bullet` or `number` for an item, nothing for other paragraphs."""
    found = LIST.fullmatch(style)
    if found and found[1].lower() != "paragraph":
        return found[1].lower()
    if not _number(paragraph) or HEADING.fullmatch(style):
        return ""
    return _format(paragraph)


def _format(paragraph: DocxParagraph) -> str:
    """What the document's numbering says of an item that has no list style."""
    part = paragraph.part
    if not isinstance(part, DocumentPart):
        return ""
    numbering = part.numbering_part.element
    number = _number(paragraph)
    for num in numbering.num_lst:
        if str(num.numId) == number:
            path = f"w:abstractNum[@w:abstractNumId='{num.abstractNumId.val}']/w:lvl/w:numFmt"
            formats = [f.get(qn("w:val")) for f in numbering.xpath(path)]
            return "bullet" if formats[:1] == ["bullet"] else "number"
    return ""


def _level(paragraph: DocxParagraph, style: str) -> int:
    found = LIST.fullmatch(style)
    if found and found[2]:
        return int(found[2]) - 1
    value = _numbering(paragraph, "w:ilvl")
    return int(value) if value.isdigit() else 0


def _number(paragraph: DocxParagraph) -> str:
    return _numbering(paragraph, "w:numId")


def _numbering(paragraph: DocxParagraph, kind: str) -> str:
    """A value of the paragraph's own numbering, empty where it has none."""
    found = paragraph._p.find(f"./{qn('w:pPr')}/{qn('w:numPr')}/{qn(kind)}")
    return str(found.get(qn("w:val"), "")) if found is not None else ""


def _cells(row: CT_Row, table: DocxTable, *, plain: bool) -> Iterator[str]:
    """The texts of a row; what a merged cell covers is empty. `plain` rows are bold as such."""
    for cell in row.tc_lst:
        merged = cell.vMerge == "continue"
        lines = []
        for element in cell.iter(qn("w:p")):
            looks = spans(DocxParagraph(element, table))
            lines.append(marked(replace(s, bold=False) if plain else s for s in looks))
        yield "" if merged else "\n".join(lines).strip()
        yield from [""] * (cell.grid_span - 1)


def _image(drawing: BaseOxmlElement, file: str) -> Image:
    extent, properties = next(drawing.iter(EXTENT), None), next(drawing.iter(PROPERTIES), None)
    width = int(extent.get("cx", "0")) / EMU_A_CM if extent is not None else 0.0
    alt = properties.get("descr", "") if properties is not None else ""
    return Image.model_construct(
        type="image", file=file, width_cm=round(width, 2) or None, alt=str(alt)
    )
