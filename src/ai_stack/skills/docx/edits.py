"""Changes to a document that leave all else as it is."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from docx.document import Document as Docx
from docx.oxml.ns import qn
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.table import Table as DocxTable
from docx.text.paragraph import Paragraph as DocxParagraph
from docx.text.run import Run
from pydantic import Field

from ai_stack.skill import SkillFailed

from .blocks import MAX_COLUMNS, Blocks, Part, Text
from .writing import CONTROL, Writer, add_styles, write_text

Find: TypeAlias = Annotated[str, Field(min_length=1, max_length=5000)]
Index: TypeAlias = Annotated[int, Field(ge=0, le=100_000)]


class Replace(Part):
    """Put a text in place of another, in its formatting."""

    do: Literal["replace"]
    find: Find
    text: Text


class Insert(Part):
    """Put blocks after the paragraph that holds `after`; at the end without it."""

    do: Literal["insert"]
    blocks: Blocks
    after: Annotated[str, Field(max_length=5000)] = ""


class Delete(Part):
    """Take out the paragraphs that hold a text."""

    do: Literal["delete"]
    find: Find


class SetCell(Part):
    """Write a cell of a table anew; all counted from 0."""

    do: Literal["set_cell"]
    table: Index
    row: Index
    column: Index
    text: Text


class AddRow(Part):
    """A row at the end of a table, looking like the last one."""

    do: Literal["add_row"]
    table: Index
    cells: Annotated[list[Text], Field(min_length=1, max_length=MAX_COLUMNS)]


Change: TypeAlias = Annotated[
    Replace | Insert | Delete | SetCell | AddRow, Field(discriminator="do")
]


def apply_changes(
    document: Docx, changes: Iterable[Change], images: Mapping[str, Path]
) -> list[int]:
    """Do the changes in order; how often each applied. SkillFailed for one that found nothing."""
    counts = []
    for n, change in enumerate(changes):
        count = _apply(document, change, images)
        if not count:
            raise SkillFailed(f"Change {n} ({change.do}) found nothing to change; nothing is done.")
        counts.append(count)
    return counts


def _apply(document: Docx, change: Change, images: Mapping[str, Path]) -> int:
    match change:
        case Replace():
            return sum(replace(p, change.find, change.text) for p in paragraphs(document))
        case Insert():
            return _insert(document, change, images)
        case Delete():
            return _delete(document, change.find)
        case SetCell():
            return _set_cell(document, change)
        case AddRow():
            return _add_row(_table(document, change.table), change.cells)


def paragraphs(document: Docx) -> Iterator[DocxParagraph]:
    """Those of the text, its tables, and the headers and footers of their own."""
    for element in document.element.body.iter(qn("w:p")):
        yield DocxParagraph(element, document._body)
    for section in document.sections:
        for part in (section.header, section.footer):
            if not part.is_linked_to_previous:
                for element in part._element.iter(qn("w:p")):
                    yield DocxParagraph(element, part)


def runs(paragraph: DocxParagraph) -> list[Run]:
    """All runs of a paragraph, those within links too."""
    return [Run(element, paragraph) for element in paragraph._p.iter(qn("w:r"))]


def replace(paragraph: DocxParagraph, find: str, text: str) -> int:
    """Every place of `find`: the run in which it begins takes the new text."""
    parts = runs(paragraph)
    whole = "".join(run.text for run in parts)
    places = [m.start() for m in re.finditer(re.escape(find), whole)]
    for start in reversed(places):
        _cut(parts, start, start + len(find), text.translate(CONTROL))
    return len(places)


def _cut(parts: list[Run], start: int, end: int, text: str) -> None:
    place = 0
    for run in parts:
        old = run.text
        low, high = max(start - place, 0), min(end - place, len(old))
        if low < high:
            run.text = old[:low] + (text if place + low == start else "") + old[high:]
        place += len(old)


def _insert(document: Docx, change: Insert, images: Mapping[str, Path]) -> int:
    add_styles(document)
    anchor = _anchor(document, change.after) if change.after else None
    made = Writer(document, images).write(change.blocks)
    if anchor is not None:
        for element in reversed(made):
            anchor.addnext(element)
    return len(change.blocks)


def _anchor(document: Docx, text: str) -> BaseOxmlElement:
    elements: list[BaseOxmlElement] = list(document.element.body)
    for kind in ("w:p", "w:tbl"):
        for element in elements:
            if element.tag == qn(kind) and text in "".join(element.itertext()):
                return element
    raise SkillFailed(f"No paragraph holds {text[:80]!r} to insert after.")


def _delete(document: Docx, text: str) -> int:
    found = [p._p for p in document.paragraphs if text in p.text]
    for element in found:
        parent = element.getparent()
        if parent is not None and element.find(f".//{qn('w:sectPr')}") is None:
            parent.remove(element)
    return len(found)


def _table(document: Docx, number: int) -> DocxTable:
    tables = document.tables
    if number >= len(tables):
        raise SkillFailed(f"There is no table {number}; the document has {len(tables)}.")
    return tables[number]


def _set_cell(document: Docx, change: SetCell) -> int:
    table = _table(document, change.table)
    try:
        cell = table.cell(change.row, change.column)
    except IndexError:
        rows, columns = len(table.rows), len(table.columns)
        raise SkillFailed(f"Table {change.table} has {rows} rows and {columns} columns.") from None
    for paragraph in cell.paragraphs[1:]:
        cell._tc.remove(paragraph._p)
    first = cell.paragraphs[0]
    bold = any(run.bold for run in first.runs)
    first.clear()
    write_text(first, change.text)
    for run in first.runs if bold else ():
        run.bold = True
    return 1


def _add_row(table: DocxTable, cells: list[str]) -> int:
    row = table.add_row()  # type: ignore[no-untyped-call]
    if len(cells) > len(row.cells):
        raise SkillFailed(f"The table has {len(row.cells)} columns, the row {len(cells)} cells.")
    for cell, text in zip(row.cells, cells, strict=False):
        write_text(cell.paragraphs[0], text)
    return 1
