"""Sheets as data, and a new workbook of them."""

from collections.abc import Sequence
from typing import Annotated

from openpyxl import Workbook
from openpyxl.styles import Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import SkillFailed

from .cells import Cell, write

MAX_ROWS, MAX_COLUMNS, MAX_SHEETS, WIDEST = 100_000, 1000, 100, 60
FORBIDDEN = set("[]:*?/\\")
HEAD = PatternFill("solid", fgColor="FFE8ECF1")


class Sheet(BaseModel):
    """One sheet: its rows from A1 on."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=31)]
    rows: Annotated[
        list[Annotated[list[Cell], Field(max_length=MAX_COLUMNS)]], Field(max_length=MAX_ROWS)
    ]
    header: Annotated[bool, Field(description="The first row is a head: bold, frozen.")] = True
    formats: Annotated[
        dict[str, Annotated[str, Field(max_length=100)]],
        Field(max_length=MAX_COLUMNS, description='Number formats by column: {"C": "0.00"}.'),
    ] = {}


def created(sheets: Sequence[Sheet]) -> Workbook:
    """A workbook of these sheets."""
    book = Workbook()
    book.remove(book.active)
    for spec in sheets:
        sheet = add_sheet(book, spec.name)
        for row, values in enumerate(spec.rows, 1):
            for column, value in enumerate(values, 1):
                if value is not None:
                    write(sheet.cell(row, column), value)
        _dress(sheet, spec)
    return book


def add_sheet(book: Workbook, name: str) -> Worksheet:
    """A new sheet at the end; SkillFailed for a name that Excel refuses."""
    check_name(book, name)
    return book.create_sheet(name)


def check_name(book: Workbook, name: str) -> None:
    """SkillFailed for a name that is taken or that Excel refuses."""
    if not name.strip() or set(name) & FORBIDDEN or name[0] == "'" or name[-1] == "'":
        raise SkillFailed(f"A sheet cannot be named {name[:60]!r}: no []:*?/\\ and no quotes.")
    if name.casefold() in {sheet.casefold() for sheet in book.sheetnames}:
        raise SkillFailed(f"There are two sheets named {name[:60]!r}.")


def _dress(sheet: Worksheet, spec: Sheet) -> None:
    for letters, code in spec.formats.items():
        if not letters.isalpha() or len(letters) > 3:
            raise SkillFailed(f"`formats` are by column letters; {letters[:20]!r} are none.")
        for cell in sheet[letters.upper()][1 if spec.header else 0 :]:
            cell.number_format = code
    for n in range(1, sheet.max_column + 1):
        sheet.column_dimensions[get_column_letter(n)].width = _width(spec, n - 1)
    if spec.header and spec.rows:
        for cell in sheet[1]:
            cell.font, cell.fill = Font(bold=True), HEAD
        sheet.freeze_panes = "A2"


def _width(spec: Sheet, column: int) -> int:
    texts = [str(row[column]) for row in spec.rows if column < len(row) and row[column] is not None]
    shown = [text for text in texts if not text.startswith("=")]
    return min(WIDEST, max([9, *(len(text) + 2 for text in shown)]))
