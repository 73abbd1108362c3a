"""Every formula of a workbook worked out, in the order in which they need each other.

The functions are those of the `formulas` library; the order, the names and the bounds are ours, so
that a workbook of thousands of formulas takes seconds. What cannot be worked out here keeps the
value that is stored for it. No file and no network is touched.
"""

import bisect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import TypeAlias

import numpy as np
from formulas.errors import BaseError
from formulas.functions import Error, XlError, sh
from openpyxl import Workbook
from openpyxl.cell import Cell as ExcelCell
from openpyxl.utils.datetime import to_excel
from openpyxl.worksheet.formula import ArrayFormula

from ai_stack.skill import SkillFailed

from .cells import EXACT, LONGEST, Value, formula_of
from .expressions import Expression, Expressions, Missing, Unknown
from .references import Area

MAX_FORMULAS, MAX_READS, MAX_AREA = 10_000, 60_000_000, 1_000_000
ERROR = re.compile(r"#(NULL!|DIV/0!|VALUE!|REF!|NAME\?|NUM!|N/A)")
Place: TypeAlias = tuple[str, int, int]
Cause: TypeAlias = str
FAULTS = (
    *(sh.DispatcherError, BaseError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(ArithmeticError, NotImplementedError, RecursionError, MemoryError),
)


@dataclass(slots=True)
class Outcome:
    """`values` of all formulas; `unknown` and `circular` kept what was stored."""

    values: dict[Place, Value] = field(default_factory=dict)
    unknown: dict[Place, Cause] = field(default_factory=dict)
    circular: list[Place] = field(default_factory=list)
    texts: set[Place] = field(default_factory=set)

    @property
    def errors(self) -> dict[Place, str]:
        """The formulas whose value is an error."""
        found = {p: v for p, v in self.values.items() if isinstance(v, str) and p not in self.texts}
        return {p: v for p, v in found.items() if ERROR.fullmatch(v)}


class Recalculation:
    """One workbook's formulas, and the values that are stored for them."""

    def __init__(self, book: Workbook, stored: Mapping[Place, Value]) -> None:
        self.stored = stored
        self.cells: dict[Place, object] = {}
        self.formulas: dict[Place, str] = {}
        self.arrays: dict[Place, str] = {}
        for sheet in book.worksheets:
            for (row, column), cell in sheet._cells.items():
                self._take((sheet.title.casefold(), row, column), cell)
        if len(self.formulas) > MAX_FORMULAS:
            raise SkillFailed(f"The workbook has more than {MAX_FORMULAS:,} formulas.")
        self.expressions = Expressions(book)
        self.rows = _by_column(self.formulas)
        self.outcome = Outcome()
        self.parsed: dict[Place, Expression] = {}
        self.reads = 0
        self.hollow: set[Place] = set()

    def _take(self, place: Place, cell: ExcelCell) -> None:
        value = cell.value
        if formula := formula_of(cell):
            self.formulas[place] = formula
            if isinstance(value, ArrayFormula) and ":" in str(value.ref):
                self.arrays[place] = str(value.ref)
        elif value is not None:
            self.cells[place] = operand(value)

    def run(self) -> Outcome:
        """Work out all formulas."""
        for place in self.formulas:
            if place not in self.outcome.values:
                self._settle(place)
        return self.outcome

    def _settle(self, start: Place) -> None:
        """Work out a formula after those that it needs; a formula that needs itself is circular."""
        path: dict[Place, Iterator[Place]] = {start: self._needs(start)}
        while path:
            place = next(reversed(path))
            needed = next((n for n in path[place] if n not in self.outcome.values), None)
            if needed is None:
                del path[place]
                self._evaluate(place)
            elif needed in path:
                self._close(list(path)[list(path).index(needed) :])
                for one in self.outcome.circular:
                    path.pop(one, None)
            else:
                path[needed] = self._needs(needed)

    def _close(self, circle: list[Place]) -> None:
        for place in circle:
            self.outcome.circular.append(place)
            self._keep(place)

    def _keep(self, place: Place) -> None:
        """Leave a formula its stored value; without one, those that need it are unknown too."""
        value = self.stored.get(place)
        if value is None:
            self.hollow.add(place)
        self._put(place, operand(value))
        self.outcome.values[place] = value

    def _put(self, place: Place, value: object) -> None:
        self.cells[place] = value
        self.outcome.values[place] = plain(value)
        if isinstance(value, str) and not isinstance(value, XlError):
            self.outcome.texts.add(place)

    def _needs(self, place: Place) -> Iterator[Place]:
        """The formulas whose values a formula needs."""
        try:
            self.parsed[place] = self.expressions.of(self.formulas[place], place)
        except Missing as missing:
            self._put(place, Error.errors[str(missing)])
            return
        except Unknown as unknown:
            self.outcome.unknown[place] = str(unknown)
            return
        for area in self.parsed[place].areas:
            for needed in self._formulas_in(area):
                yield needed
                if needed in self.hollow:
                    self.outcome.unknown[place] = "it needs a cell that is unknown"

    def _formulas_in(self, area: Area) -> Iterator[Place]:
        sheet = area.sheet.casefold()
        for column in range(area.left, area.right + 1):
            rows = self.rows.get((sheet, column))
            if rows:
                low = bisect.bisect_left(rows, area.top)
                for row in rows[low : bisect.bisect_right(rows, area.bottom)]:
                    yield (sheet, row, column)

    def _evaluate(self, place: Place) -> None:
        if place in self.outcome.values:
            return
        if place in self.outcome.unknown or place in self.arrays:
            self.outcome.unknown.setdefault(place, "an array over several cells")
            self._keep(place)
            return
        expression = self.parsed.pop(place)
        try:
            value = _single(expression.call([self._array(area) for area in expression.areas]))
        except Unknown as unknown:
            self.outcome.unknown[place] = str(unknown)
            self._keep(place)
            return
        except FAULTS:
            self.outcome.unknown[place] = "it cannot be worked out"
            self._keep(place)
            return
        self._put(place, value)

    def _array(self, area: Area) -> np.ndarray:
        self.reads += area.size
        if area.size > MAX_AREA:
            raise Unknown("it reads too many cells")
        if self.reads > MAX_READS:
            raise SkillFailed("The formulas read more cells than can be worked out here.")
        sheet, cells = area.sheet.casefold(), self.cells
        empty, columns = sh.EMPTY, range(area.left, area.right + 1)
        found = np.empty((area.bottom - area.top + 1, len(columns)), dtype=object)
        for n, row in enumerate(range(area.top, area.bottom + 1)):
            for m, column in enumerate(columns):
                found[n, m] = cells.get((sheet, row, column), empty)
        return found


def _by_column(places: Mapping[Place, str]) -> dict[tuple[str, int], list[int]]:
    found: dict[tuple[str, int], list[int]] = {}
    for sheet, row, column in places:
        found.setdefault((sheet, column), []).append(row)
    return {key: sorted(rows) for key, rows in found.items()}


def operand(value: object) -> object:
    """A cell's value as the functions take it: dates are numbers, errors are errors."""
    match value:
        case datetime() | date() | time() | timedelta():
            return to_excel(value)
        case str() if ERROR.fullmatch(value):
            return Error.errors[value]
        case None:
            return sh.EMPTY
    return value


def _single(result: object) -> object:
    """The one value of a result; Unknown where it would need more cells than one."""
    array = np.asarray(result, dtype=object)
    if array.size != 1:
        raise Unknown("it gives several values")
    value = array.reshape(-1)[0]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str) and not isinstance(value, XlError) and len(value) > LONGEST:
        return Error.errors["#VALUE!"]
    if isinstance(value, float) and not np.isfinite(value):
        return Error.errors["#NUM!"]
    return 0 if value is sh.EMPTY else value


def plain(value: object) -> Value:
    """A worked out value as JSON."""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    if isinstance(value, bool | int | float):
        return value
    return str(value)
