"""Text and tables of pages, as they are shown."""

# mypy: disable-error-code="import-untyped"

import csv
import io
from collections.abc import Sequence
from typing import Literal, TypeAlias

import pdfplumber
import pypdfium2

from ai_stack.skill import JSON, SkillFailed

from .document import DAMAGED, FAULTS

Find: TypeAlias = Literal["lines", "text"]
MAX_TABLES = 1000
HYPHENS = {0x02: "-\n", 0xFFFE: "-\n"}  # as they stand at the end of a line


def texts(data: bytes, pages: Sequence[int], *, layout: bool) -> list[str]:
    """The text of each page."""
    try:
        return _laid_out(data, pages) if layout else _plain(data, pages)
    except FAULTS:
        raise SkillFailed(DAMAGED) from None


def _plain(data: bytes, pages: Sequence[int]) -> list[str]:
    found = []
    with pypdfium2.PdfDocument(data) as document:
        for number in pages:
            page = document[number]
            text = page.get_textpage().get_text_bounded()
            found.append(text.replace("\r\n", "\n").translate(HYPHENS).strip())
            page.close()
    return found


def _laid_out(data: bytes, pages: Sequence[int]) -> list[str]:
    with pdfplumber.open(io.BytesIO(data)) as document:
        return [document.pages[n].extract_text(layout=True).rstrip() for n in pages]


def tables(data: bytes, pages: Sequence[int], find: Find) -> list[dict[str, JSON]]:
    """The tables of pages, each with its page and rows."""
    settings = {"vertical_strategy": find, "horizontal_strategy": find}
    found: list[dict[str, JSON]] = []
    try:
        with pdfplumber.open(io.BytesIO(data)) as document:
            for number in pages:
                page = document.pages[number]
                for table in page.extract_tables(settings)[: MAX_TABLES - len(found)]:
                    rows: list[JSON] = [[(c or "").strip() for c in row] for row in table]
                    found.append({"page": number + 1, "rows": rows})
                page.close()
    except FAULTS:
        raise SkillFailed(DAMAGED) from None
    return found


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """Rows as comma-separated values."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
