"""What a workbook holds, as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass

from openpyxl import Workbook
from openpyxl.cell import Cell as ExcelCell
from openpyxl.styles.numbers import is_date_format
from openpyxl.utils import get_column_letter
from openpyxl.utils.datetime import from_excel
from openpyxl.worksheet.worksheet import Worksheet

from ai_stack.skill import JSON, SkillFailed

from .cells import Value, formula_of, shown
from .charts import charts_of, sheet_named
from .recalculation import Place
from .references import Area, area_of

MAX_SHOWN = 200_000


@dataclass(frozen=True, slots=True)
class Window:
    """What part of a workbook is asked for."""

    sheet: str
    range: str
    max_rows: int


class Reading:
    """Cells of a workbook, with the values that its formulas have."""

    def __init__(self, worked: Mapping[Place, Value], stored: Mapping[Place, Value]) -> None:
        self.worked, self.stored = worked, stored
        self.left = MAX_SHOWN
        self.absent = 0

    def sheet(self, sheet: Worksheet, window: Window) -> tuple[dict[str, JSON], bool]:
        """One sheet, and whether it was cut."""
        area = _window(sheet, window)
        rows = min(area.bottom - area.top + 1, window.max_rows)
        width = area.right - area.left + 1
        rows = min(rows, self.left // max(1, width))
        self.left -= rows * width
        last = area.top + rows - 1
        formulas: dict[str, JSON] = {}
        rows_shown = range(area.top, last + 1)
        values: list[JSON] = [self._row(sheet, row, area, formulas) for row in rows_shown]
        found: dict[str, JSON] = {
            "name": sheet.title,
            "size": sheet.dimensions,
            "hidden": sheet.sheet_state != "visible",
            "from": f"{get_column_letter(area.left)}{area.top}",
            "values": values,
            "formulas": formulas,
            "merged": [str(merged) for merged in sheet.merged_cells.ranges],
            "tables": dict(sheet.tables.items()),
            "charts": charts_of(sheet),
        }
        return found, last < area.bottom

    def _row(self, sheet: Worksheet, row: int, area: Area, formulas: dict[str, JSON]) -> list[JSON]:
        found: list[JSON] = []
        for column in range(area.left, area.right + 1):
            cell = sheet._cells.get((row, column))
            formula = formula_of(cell) if cell is not None else ""
            if formula:
                formulas[cell.coordinate] = formula.replace("_xlfn._xlws.", "").replace(
                    "_xlfn.", ""
                )
                found.append(self._value(sheet, cell))
            else:
                found.append(shown(cell.value) if cell is not None else None)
        while found and found[-1] is None:
            found.pop()
        return found

    def _value(self, sheet: Worksheet, cell: ExcelCell) -> JSON:
        """The value that is stored for a formula, worked out where there is none."""
        place = (sheet.title.casefold(), cell.row, cell.column)
        value = self.stored.get(place)
        if value is None:
            self.absent += 1
            value = self.worked.get(place)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and is_date_format(cell.number_format):
            return _date(value)
        return value


def contents(
    book: Workbook, worked: Mapping[Place, Value], stored: Mapping[Place, Value], window: Window
) -> tuple[dict[str, JSON], tuple[str, ...]]:
    """The sheets that are asked for, the workbook's names, and notes."""
    sheets = [sheet_named(book, window.sheet)] if window.sheet else book.worksheets
    reading, shown_sheets, cut = Reading(worked, stored), [], []
    for sheet in sheets:
        found, was_cut = reading.sheet(sheet, window)
        shown_sheets.append(found)
        cut += [sheet.title] if was_cut else []
    names = {name: str(defined.attr_text) for name, defined in book.defined_names.items()}
    notes = [f"Rows of {', '.join(cut)} were left out; ask for a range."] if cut else []
    if reading.absent:
        notes.append(f"{reading.absent} formula(s) had no stored value and were worked out.")
    return {"sheets": shown_sheets, "names": names}, tuple(notes)


def _window(sheet: Worksheet, window: Window) -> Area:
    whole = Area(sheet.title, 1, 1, sheet.max_row, sheet.max_column)
    if not window.range:
        return whole
    area = area_of(window.range, sheet.title)
    if area is None:
        raise SkillFailed(f"{window.range[:40]!r} is no range of cells.")
    bottom, right = min(area.bottom, whole.bottom), min(area.right, whole.right)
    return Area(sheet.title, area.top, area.left, max(area.top, bottom), max(area.left, right))


def _date(value: Value) -> JSON:
    try:
        return shown(from_excel(value))
    except (ValueError, OverflowError, TypeError):
        return value
