"""References within formulas: to which cells they point, and how they follow a change."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from openpyxl.formula import Tokenizer
from openpyxl.formula.tokenizer import Token, TokenizerError
from openpyxl.utils import column_index_from_string, get_column_letter

LAST_ROW, LAST_COLUMN = 1_048_576, 16_384
SHEET = r"(?:(?:'(?P<quoted>(?:[^']|'')+)'|(?P<plain>[^'!\[\]:\s]+))!)?"
CORNER = r"(\$?)([A-Za-z]{1,3})?(\$?)(\d{1,7})?"
REFERENCE = re.compile(rf"{SHEET}(?P<first>{CORNER})(?::(?P<last>{CORNER}))?")
PARTS = re.compile(CORNER)


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of cells, its corners included, counted from 1."""

    sheet: str
    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> int:
        """How many cells it has."""
        return (self.bottom - self.top + 1) * (self.right - self.left + 1)


def tokens_of(formula: str) -> list[Token] | None:
    """The parts of a formula; None for what is none."""
    try:
        return list(Tokenizer(formula).items)
    except (TokenizerError, IndexError):
        return None


def is_reference(token: Token) -> bool:
    """Whether a part points to cells, or is a name."""
    return bool(token.type == Token.OPERAND and token.subtype == Token.RANGE)


def area_of(text: str, home: str) -> Area | None:
    """The cells that a reference points to, from a sheet; None for names and other forms."""
    found = REFERENCE.fullmatch(text)
    if found is None:
        return None
    first = _corner(found["first"])
    last = _corner(found["last"]) if found["last"] is not None else first
    if first is None or last is None or (found["last"] is None and None in first):
        return None
    (left, top), (right, bottom) = first, last
    if (left is None) != (right is None) or (top is None) != (bottom is None):
        return None
    columns = sorted((left or 1, right or LAST_COLUMN))
    rows = sorted((top or 1, bottom or LAST_ROW))
    if columns[1] > LAST_COLUMN or rows[1] > LAST_ROW or rows[0] < 1:
        return None
    return Area(sheet_of(text) or home, rows[0], columns[0], rows[1], columns[1])


def sheet_of(text: str) -> str:
    """The sheet that a reference names; empty where it names none."""
    found = REFERENCE.fullmatch(text)
    if found is None:
        return ""
    return (found["quoted"] or "").replace("''", "'") or found["plain"] or ""


def rewritten(formula: str, change: Callable[[str], str]) -> str:
    """The formula with each of its references changed."""
    tokens = tokens_of(formula)
    if tokens is None:
        return formula
    return "=" + "".join(change(t.value) if is_reference(t) else t.value for t in tokens)


def renamed(reference: str, old: str, new: str) -> str:
    """The reference after a sheet got another name."""
    if sheet_of(reference).casefold() != old.casefold():
        return reference
    return f"{quoted(new)}!{reference.rpartition('!')[2]}"


def quoted(sheet: str) -> str:
    """A sheet's name as formulas write it."""
    return "'" + sheet.replace("'", "''") + "'"


def moved(reference: str, home: str, sheet: str, row: int, count: int) -> str:
    """The reference after rows came (count > 0) before `row`, or went (count < 0) from it on.

    What pointed to nothing but rows that went becomes #REF!.
    """
    area = area_of(reference, home)
    if (
        area is None
        or area.sheet.casefold() != sheet.casefold()
        or not re.search(r"\d$", reference)
    ):
        return reference
    top, bottom = moved_rows(area.top, area.bottom, row, count)
    if top > bottom:
        return "#REF!"
    head, mark, corners = reference.rpartition("!")
    rows = iter((top, bottom))
    ends = [re.sub(r"\d+$", str(next(rows)), end) for end in _ordered(corners)]
    return head + mark + ":".join(ends)


def moved_rows(top: int, bottom: int, row: int, count: int) -> tuple[int, int]:
    """First and last of some rows after others came or went; none are left if first > last."""
    if count > 0:
        return (top + count if top >= row else top, bottom + count if bottom >= row else bottom)
    end = row - count  # the first row that stays below
    new_top = top if top < row else max(row, top + count)
    new_bottom = bottom if bottom < row else (row - 1 if bottom < end else bottom + count)
    return new_top, new_bottom


def _ordered(corners: str) -> list[str]:
    """The corners, that of the upper row first."""
    ends = corners.split(":")
    return sorted(ends, key=lambda end: int(re.sub(r"\D", "", end) or 0))


def shifted(formula: str, rows: int, columns: int) -> str:
    """The formula as if it were filled down or to the right."""

    def change(reference: str) -> str:
        head, mark, corners = reference.rpartition("!")
        if area_of(reference, "") is None:
            return reference
        return head + mark + ":".join(_filled(c, rows, columns) for c in corners.split(":"))

    return rewritten(formula, change)


def _filled(corner: str, rows: int, columns: int) -> str:
    found = PARTS.fullmatch(corner)
    if found is None:
        return corner
    fixed_column, column, fixed_row, row = found.groups()
    if column and not fixed_column:
        column = get_column_letter(max(1, column_index_from_string(column) + columns))
    if row and not fixed_row:
        row = str(max(1, int(row) + rows))
    return f"{fixed_column}{column or ''}{fixed_row}{row or ''}"


def _corner(text: str) -> tuple[int | None, int | None] | None:
    found = PARTS.fullmatch(text)
    if found is None or not (found[2] or found[4]):
        return None
    return (column_index_from_string(found[2]) if found[2] else None, int(found[4] or 0) or None)
