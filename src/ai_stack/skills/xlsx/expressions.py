"""A formula as a function of the cells that it reads; formulas of one form are compiled once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from formulas import Parser, get_functions
from formulas.errors import BaseError
from openpyxl import Workbook
from openpyxl.formula.tokenizer import Token
from openpyxl.utils import FORMULAE, get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from .references import Area, area_of, is_reference, quoted, tokens_of

Place: TypeAlias = tuple[str, int, int]
Compiled: TypeAlias = Callable[..., object]
MAX_LENGTH, MAX_DEPTH = 8192, 64
NEEDS_PLACE = ("ROW", "COLUMN", "ROWS", "COLUMNS")
NOT_HERE = {"INDIRECT", "OFFSET", "CELL", "FORMULATEXT", "ISFORMULA", "SHEET", "SHEETS", "AREAS"}
SPILLING = {"FILTER", "SORT"}
NEWER = {
    *("LET", "LAMBDA", "MAP", "REDUCE", "SCAN", "BYROW", "BYCOL", "TEXTSPLIT", "TEXTBEFORE"),
    *("TEXTAFTER", "VSTACK", "HSTACK", "TAKE", "DROP", "SORTBY", "SEQUENCE", "RANDARRAY"),
    *("XMATCH", "UNIQUE", "TOCOL", "TOROW", "WRAPROWS", "WRAPCOLS", "EXPAND", "CHOOSECOLS"),
    *("SINGLE", "ANCHORARRAY", "IMAGE", "FILTER", "SORT", "CHOOSEROWS", "MAKEARRAY"),
}


class Unknown(Exception):
    """A formula that cannot be worked out here; its text says why."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled formula and the areas that it reads, in the order of its arguments."""

    areas: Sequence[Area]
    compiled: Compiled
    order: Sequence[int]

    def call(self, arrays: Sequence[np.ndarray]) -> object:
        """Its result for the values of its areas."""
        return self.compiled(*[arrays[n] for n in self.order])


class Expressions:
    """The formulas of one workbook, whose names and tables they may use."""

    def __init__(self, book: Workbook) -> None:
        self.sheets = {sheet.title.casefold(): sheet for sheet in book.worksheets}
        rows = max(sheet.max_row for sheet in book.worksheets)
        columns = max(sheet.max_column for sheet in book.worksheets)
        self.extent = (max(1, rows), max(1, columns))
        self.names = {n.casefold(): str(d.attr_text) for n, d in book.defined_names.items()}
        self.tables = {
            table.displayName.casefold(): (sheet, table)
            for sheet in book.worksheets
            for table in sheet.tables.values()
        }
        self.functions = get_functions()
        self.known: dict[str, tuple[Compiled, Sequence[str]] | None] = {}

    def of(self, formula: str, place: Place) -> Expression:
        """The formula of a cell; Unknown says why it cannot be worked out."""
        tokens = tokens_of(formula) if len(formula) <= MAX_LENGTH else None
        if tokens is None:
            raise Unknown("it is no formula")
        areas: list[Area] = []
        text = "=" + "".join(self._parts(tokens, place, areas))
        compiled, inputs = self._compiled(text)
        order = [int(name.removeprefix("ARG_")) for name in inputs]
        return Expression(areas, compiled, order)

    def _compiled(self, text: str) -> tuple[Compiled, Sequence[str]]:
        if text not in self.known:
            try:
                found = Parser().ast(text)[1].compile()
                self.known[text] = (found, list(found.inputs))
            except (BaseError, ValueError, TypeError, KeyError, IndexError, RecursionError):
                self.known[text] = None
        known = self.known[text]
        if known is None or any(not name.startswith("ARG_") for name in known[1]):
            raise Unknown("it is no formula that is known here")
        return known

    def _parts(self, tokens: Sequence[Token], place: Place, areas: list[Area]) -> Iterator[str]:
        """The formula with an argument in place of each area that it reads."""
        n = depth = 0
        while n < len(tokens):
            token = tokens[n]
            depth += {Token.OPEN: 1, Token.CLOSE: -1}.get(token.subtype, 0)
            if depth > MAX_DEPTH:
                raise Unknown("it is nested too deep")
            if token.type == Token.FUNC and token.subtype == Token.OPEN:
                name = token.value[:-1].upper().removeprefix("_XLFN.").removeprefix("_XLWS.")
                if name in NEEDS_PLACE:
                    text, n = self._position(name, tokens, n, place)
                    yield text
                    depth -= 1
                    continue
                self._check(name)
                yield f"{name}("
            elif is_reference(token):
                yield _argument(self._area(token.value, place), areas)
            else:
                yield token.value
            n += 1

    def _check(self, name: str) -> None:
        if name in self.functions and name not in NOT_HERE:
            return
        if name in FORMULAE or name in NOT_HERE or name in NEWER:
            raise Unknown(f"the function {name[:40]}")
        raise Missing("#NAME?")

    def _position(
        self, name: str, tokens: Sequence[Token], n: int, place: Place
    ) -> tuple[str, int]:
        """ROW() and the like as the number that they are, and where the formula goes on."""
        inside = [t for t in tokens[n + 1 : n + 3] if t.type != Token.WSPACE]
        if inside and inside[0].subtype == Token.CLOSE and not name.endswith("S"):
            return str(place[1] if name == "ROW" else place[2]), n + 2
        if len(inside) < 2 or not is_reference(inside[0]) or inside[1].subtype != Token.CLOSE:
            raise Unknown(f"the function {name} of something else than cells")
        area = self._area(inside[0].value, place, whole=True)
        numbers = {"ROW": area.top, "COLUMN": area.left}
        numbers["ROWS"] = area.bottom - area.top + 1
        numbers["COLUMNS"] = area.right - area.left + 1
        return str(numbers[name]), n + 3

    def _area(self, text: str, place: Place, *, whole: bool = False) -> Area:
        """The cells that a reference, a name or a table's column stands for."""
        home = self.sheets[place[0]]
        area = area_of(text, home.title) or self._named(text, home) or self._column(text, place)
        if area is None:
            raise Unknown(f"the reference {text[:60]}")
        if "[" in area.sheet or ":" in area.sheet:
            raise Unknown(f"the reference {text[:60]}")
        if area.sheet.casefold() not in self.sheets:
            raise Missing("#REF!")
        return area if whole else _clipped(area, self.extent)

    def _named(self, text: str, home: Worksheet) -> Area | None:
        local = {n.casefold(): str(d.attr_text) for n, d in home.defined_names.items()}
        target = local.get(text.casefold()) or self.names.get(text.casefold())
        if target is None and "[" not in text and "!" not in text and ":" not in text:
            raise Missing("#NAME?")
        return area_of(target, home.title) if target else None

    def _column(self, text: str, place: Place) -> Area | None:
        """`Table[Column]` and `Table[@Column]`; None for other forms."""
        name, _, rest = text.partition("[")
        if name.casefold() not in self.tables or not rest.endswith("]"):
            return None
        sheet, table = self.tables[name.casefold()]
        inner = rest[:-1].replace("[#This Row],", "@").replace("[", "").replace("]", "")
        column, here = inner.removeprefix("@").strip().casefold(), inner.startswith("@")
        names = [c.name.casefold() for c in table.tableColumns]
        whole = area_of(table.ref, sheet.title)
        if column not in names or whole is None:
            return None
        left = whole.left + names.index(column)
        top = whole.top + (1 if table.headerRowCount is None else table.headerRowCount)
        bottom = whole.bottom - (table.totalsRowCount or 0)
        if here:
            top = bottom = place[1]
        return Area(sheet.title, top, left, bottom, left)


class Missing(Unknown):
    """A sheet, a name or a function that is not there; its text is the error that this gives."""


def with_prefixes(formula: str) -> str:
    """The formula with the prefix that files want before the names of newer functions."""
    tokens = tokens_of(formula)
    if tokens is None:
        return formula
    functions, parts = get_functions(), []
    for token in tokens:
        text = token.value
        if token.type == Token.FUNC and token.subtype == Token.OPEN:
            name = text[:-1].upper()
            if name in SPILLING:
                text = f"_xlfn._xlws.{name}("
            elif name not in FORMULAE and (name in NEWER or f"_XLFN.{name}" in functions):
                text = f"_xlfn.{name}("
        parts.append(text)
    return "=" + "".join(parts)


def _clipped(area: Area, extent: tuple[int, int]) -> Area:
    """Whole columns and rows end where the workbook's cells do."""
    bottom = max(area.top, min(area.bottom, extent[0])) if area.size > 10_000 else area.bottom
    right = max(area.left, min(area.right, extent[1])) if area.size > 10_000 else area.right
    return Area(area.sheet, area.top, area.left, bottom, right)


def _argument(area: Area, areas: list[Area]) -> str:
    if area not in areas:
        areas.append(area)
    return f"ARG_{areas.index(area)}"


def label(sheet: str, row: int, column: int) -> str:
    """A cell as formulas name it from another sheet."""
    shown = sheet if sheet.isidentifier() else quoted(sheet)
    return f"{shown}!{get_column_letter(column)}{row}"
