"""Changes to a workbook after which every formula still points to what it meant."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Annotated, Literal, TypeAlias

from openpyxl import Workbook
from openpyxl.styles import Alignment, PatternFill
from openpyxl.worksheet.formula import ArrayFormula
from openpyxl.worksheet.worksheet import Worksheet
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import SkillFailed

from .cells import Cell, formula_of, write
from .charts import sheet_named
from .references import LAST_ROW, area_of, moved, moved_rows, renamed, rewritten, shifted
from .sheets import MAX_COLUMNS, MAX_ROWS, add_sheet, check_name

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=31)]
Color: TypeAlias = Annotated[str, Field(pattern=r"^#?[0-9A-Fa-f]{6}$")]
Row: TypeAlias = Annotated[int, Field(ge=1, le=LAST_ROW)]
MAX_FORMATTED = 200_000


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Set(Part):
    """Write single cells."""

    do: Literal["set"]
    sheet: Name
    cells: Annotated[dict[str, Cell], Field(min_length=1, max_length=MAX_ROWS)]


class Append(Part):
    """Write rows after the last one."""

    do: Literal["append"]
    sheet: Name
    rows: Annotated[
        list[Annotated[list[Cell], Field(max_length=MAX_COLUMNS)]],
        Field(min_length=1, max_length=MAX_ROWS),
    ]
    copy_formulas: bool = False


class Rows(Part):
    """Put empty rows before a row, or take rows out from it on."""

    do: Literal["insert_rows", "delete_rows"]
    sheet: Name
    row: Row
    count: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 1


class Format(Part):
    """Change how cells look."""

    do: Literal["format"]
    sheet: Name
    range: Annotated[str, Field(max_length=60)]
    number_format: Annotated[str, Field(max_length=100)] = ""
    bold: bool | None = None
    color: Color | None = None
    fill: Color | None = None
    wrap: bool | None = None


class Sheets(Part):
    """Add, rename or take out a sheet."""

    do: Literal["add_sheet", "rename_sheet", "delete_sheet"]
    sheet: Name
    to: Annotated[str, Field(max_length=31)] = ""


Change: TypeAlias = Annotated[Set | Append | Rows | Format | Sheets, Field(discriminator="do")]


def apply_changes(book: Workbook, changes: Sequence[Change]) -> None:
    """Do the changes in order; SkillFailed for what cannot be done."""
    for change in changes:
        match change:
            case Set():
                _set(sheet_named(book, change.sheet), change.cells)
            case Append():
                _append(sheet_named(book, change.sheet), change)
            case Rows():
                _move(book, sheet_named(book, change.sheet), change)
            case Format():
                _format(sheet_named(book, change.sheet), change)
            case Sheets():
                _sheets(book, change)


def _set(sheet: Worksheet, cells: dict[str, Cell]) -> None:
    for name, value in cells.items():
        area = area_of(name, sheet.title)
        if area is None or area.size != 1 or "!" in name:
            raise SkillFailed(f"{name[:40]!r} is no cell.")
        write(sheet.cell(area.top, area.left), value)


def _append(sheet: Worksheet, change: Append) -> None:
    last = max((row for (row, _), c in sheet._cells.items() if c.value is not None), default=0)
    for n, values in enumerate(change.rows, 1):
        width = max(len(values), sheet.max_column if change.copy_formulas else 0)
        for column in range(1, width + 1):
            above = sheet._cells.get((last, column))
            value = values[column - 1] if column <= len(values) else None
            formula = formula_of(above) if above is not None else ""
            if value is None and change.copy_formulas and formula:
                value = shifted(formula, n, 0)
            if value is not None:
                _write_like(sheet, last + n, column, value, above)


def _write_like(sheet: Worksheet, row: int, column: int, value: Cell, above: object) -> None:
    cell = sheet.cell(row, column)
    if above is not None and row > 2:
        cell._style = copy(above._style)  # type: ignore[attr-defined]
    write(cell, value)


def _move(book: Workbook, sheet: Worksheet, change: Rows) -> None:
    """openpyxl moves the cells, and this all that points to them."""
    if sheet._charts or sheet.tables or sheet.conditional_formatting or sheet._images:
        kind = "charts, tables, images or conditional formats"
        raise SkillFailed(f"Rows of a sheet with {kind} cannot be moved here.")
    count = change.count if change.do == "insert_rows" else -change.count
    merged = [str(area) for area in sheet.merged_cells.ranges]
    for text in merged:
        sheet.unmerge_cells(text)
    heights = {r: d.height for r, d in sheet.row_dimensions.items() if d.height}
    if count > 0:
        sheet.insert_rows(change.row, count)
    else:
        sheet.delete_rows(change.row, -count)
    _follow(book, lambda text, home: moved(text, home, sheet.title, change.row, count))
    for text in merged:
        new = moved(text, sheet.title, sheet.title, change.row, count)
        if new != "#REF!":
            sheet.merge_cells(new)
    for row in heights:
        sheet.row_dimensions[row].height = None
    for row, height in heights.items():
        first, last = moved_rows(row, row, change.row, count)
        if first <= last:
            sheet.row_dimensions[first].height = height


def _follow(book: Workbook, change: Callable[[str, str], str]) -> None:
    """Change every reference of the workbook: in formulas, names and validations."""
    for sheet in book.worksheets:
        title = sheet.title
        for cell in sheet._cells.values():
            if formula := formula_of(cell):
                new = rewritten(formula, lambda text, home=title: change(text, home))  # type: ignore[misc]
                if isinstance(cell.value, ArrayFormula):
                    cell.value = ArrayFormula(change(cell.value.ref, title), new)
                elif new != formula:
                    cell.value = new
        for name in sheet.defined_names.values():
            _rename(name, title, change)
    for name in book.defined_names.values():
        _rename(name, "", change)


def _rename(name, home: str, change: Callable[[str, str], str]) -> None:  # type: ignore[no-untyped-def]
    new = rewritten(f"={name.attr_text}", lambda text: change(text, home))
    name.attr_text = new.removeprefix("=")


def _format(sheet: Worksheet, change: Format) -> None:
    area = area_of(change.range, sheet.title)
    if area is None or area.size > MAX_FORMATTED:
        raise SkillFailed(f"{change.range[:40]!r} is no range, or of too many cells.")
    for row in range(area.top, area.bottom + 1):
        for column in range(area.left, area.right + 1):
            _dress(sheet.cell(row, column), change)


def _dress(cell, change: Format) -> None:  # type: ignore[no-untyped-def]
    if change.number_format:
        cell.number_format = change.number_format
    if change.bold is not None or change.color:
        font = copy(cell.font)
        font.bold = font.bold if change.bold is None else change.bold
        font.color = _argb(change.color) if change.color else font.color
        cell.font = font
    if change.fill:
        cell.fill = PatternFill("solid", fgColor=_argb(change.fill))
    if change.wrap is not None:
        alignment = copy(cell.alignment)
        alignment.wrap_text = change.wrap
        cell.alignment = Alignment(**{n: getattr(alignment, n) for n in alignment.__fields__})


def _argb(color: str) -> str:
    return "FF" + color.removeprefix("#").upper()


def _sheets(book: Workbook, change: Sheets) -> None:
    if change.do == "add_sheet":
        add_sheet(book, change.sheet)
        return
    sheet = sheet_named(book, change.sheet)
    if change.do == "rename_sheet":
        old = sheet.title
        if change.to.casefold() != old.casefold():
            check_name(book, change.to)
        sheet.title = change.to
        _follow(book, lambda text, home: renamed(text, old, change.to))
    elif len(book.worksheets) == 1:
        raise SkillFailed("A workbook needs at least one sheet.")
    else:
        book.remove(sheet)
