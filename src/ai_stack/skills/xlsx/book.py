"""A workbook on its way to a file: recalculated, its values stored beside its formulas."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from openpyxl import Workbook
from openpyxl.utils.cell import coordinate_to_tuple
from openpyxl.xml.constants import SHEET_MAIN_NS
from openpyxl.xml.functions import fromstring, tostring

from ai_stack.skill import JSON

from .cells import Value, formula_of
from .expressions import label
from .package import opened
from .recalculation import Outcome, Place, Recalculation, operand, plain

CELL, FORMULA, VALUE = (f"{{{SHEET_MAIN_NS}}}{tag}" for tag in ("c", "f", "v"))
SHOWN = 200
BROKEN = ("#REF!", "#NAME?")


@dataclass(frozen=True, slots=True)
class Saved:
    """A file's bytes, and what came of its formulas."""

    data: bytes
    outcome: Outcome
    titles: Mapping[str, str]

    def place(self, place: Place) -> str:
        """A cell's name, with its sheet's."""
        return label(self.titles[place[0]], place[1], place[2])

    def told(self) -> dict[str, JSON]:
        """The formulas in numbers, and those that are not well, at most 200 of a kind."""
        outcome = self.outcome
        return {
            "formulas": len(outcome.values),
            "errors": {self.place(p): v for p, v in [*outcome.errors.items()][:SHOWN]},
            "unknown": {self.place(p): v for p, v in [*outcome.unknown.items()][:SHOWN]},
            "circular": [self.place(p) for p in outcome.circular[:SHOWN]],
        }

    def broken(self) -> dict[str, str]:
        """The formulas whose references or names lead nowhere."""
        found = self.outcome.errors.items()
        return {self.place(place): error for place, error in found if error in BROKEN}

    def notes(self) -> tuple[str, ...]:
        """What people should know of the formulas."""
        found = []
        if self.outcome.unknown:
            n = len(self.outcome.unknown)
            found.append(f"{n} formula(s) could not be worked out here; Excel does when it opens.")
        if self.outcome.circular:
            found.append(f"{len(self.outcome.circular)} cell(s) need themselves.")
        return tuple(found)


def saved(book: Workbook, stored: Mapping[Place, Value]) -> Saved:
    """The workbook as a file whose formulas have their values; `stored` are the former ones."""
    outcome = Recalculation(book, stored).run()
    book.calculation.fullCalcOnLoad = True
    out = io.BytesIO()
    book.save(out)
    titles = {sheet.title.casefold(): sheet.title for sheet in book.worksheets}
    return Saved(_with_values(out.getvalue(), book, outcome), outcome, titles)


def stored_values(data: bytes, book: Workbook) -> dict[Place, Value]:
    """The values that a file has for its formulas."""
    formulas = [
        (sheet.title, row, column)
        for sheet in book.worksheets
        for (row, column), cell in sheet._cells.items()
        if formula_of(cell)
    ]
    if not formulas:
        return {}
    values = opened(data, values=True)
    found = {}
    for title, row, column in formulas:
        value = values[title]._cells.get((row, column))
        if value is not None and value.value is not None:
            found[title.casefold(), row, column] = _number(value.value)
    return found


def _number(value: object) -> Value:
    """A stored value; a date is the number that it is stored as."""
    return value if isinstance(value, bool | int | float | str) else plain(operand(value))


def _with_values(data: bytes, book: Workbook, outcome: Outcome) -> bytes:
    if not outcome.values:
        return data
    out = io.BytesIO()
    paths = {f"xl/worksheets/sheet{n}.xml": s.title for n, s in enumerate(book.worksheets, 1)}
    old = zipfile.ZipFile(io.BytesIO(data))
    with old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            part = old.read(name)
            if name in paths:
                part = _sheet(part, paths[name].casefold(), outcome)
            new.writestr(name, part)
    return out.getvalue()


def _sheet(part: bytes, sheet: str, outcome: Outcome) -> bytes:
    root = fromstring(part)
    for cell in root.iter(CELL):
        if cell.find(FORMULA) is not None:
            row, column = coordinate_to_tuple(cell.get("r"))
            value = outcome.values.get((sheet, row, column))
            is_text = (sheet, row, column) in outcome.texts
            _store(cell, value, is_error=isinstance(value, str) and not is_text)
    return bytes(tostring(root))


def _store(cell, value: Value, *, is_error: bool) -> None:  # type: ignore[no-untyped-def]
    """The value into the cell's element, of the type that it has."""
    old = cell.find(VALUE)
    if value is None or old is None:
        return
    kinds = {bool: "b", str: "e" if is_error else "str"}
    kind = kinds.get(type(value))
    cell.attrib.pop("t", None)
    if kind:
        cell.set("t", kind)
    old.text = str(int(value)) if isinstance(value, bool) else _text(value)


def _text(value: Value) -> str:
    return repr(value) if isinstance(value, float) else str(value)
