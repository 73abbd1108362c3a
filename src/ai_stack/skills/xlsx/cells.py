"""Cells as JSON: what a caller writes, and what a cell's value is shown as."""

import re
from datetime import date, datetime, time, timedelta
from typing import Annotated, TypeAlias

from openpyxl.cell import Cell as ExcelCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.worksheet.formula import ArrayFormula, DataTableFormula
from pydantic import Field

from ai_stack.skill import JSON, SkillFailed

from .expressions import with_prefixes

LONGEST = 32_767
Cell: TypeAlias = bool | int | float | Annotated[str, Field(max_length=LONGEST)] | None
Value: TypeAlias = bool | int | float | str | None
DATE = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?)?")
DDE = re.compile(r"^=[^\"]*\|[^\"]*!")
DATE_FORMAT, TIME_FORMAT = "yyyy-mm-dd", "yyyy-mm-dd hh:mm"
EXACT = 1 << 53


def write(cell: ExcelCell, value: Cell) -> None:
    """Put a caller's value into a cell; SkillFailed for a formula that starts a program."""
    if not isinstance(value, str):
        cell.value = float(value) if type(value) is int and abs(value) > EXACT else value
        return
    text = ILLEGAL_CHARACTERS_RE.sub("", value)
    if text.startswith("=") and len(text) > 1:
        cell.value = checked_formula(text)
    elif DATE.fullmatch(text):
        _write_date(cell, text)
    else:
        cell.value = text.removeprefix("'")
        cell.data_type = "s"


def checked_formula(text: str) -> str:
    """The formula; SkillFailed for one that starts a program."""
    if DDE.match(text):
        raise SkillFailed(f"The formula {text[:60]!r} would start a program, which is refused.")
    return with_prefixes(text)


def _write_date(cell: ExcelCell, text: str) -> None:
    try:
        cell.value = datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
    except ValueError:
        cell.value = text
        return
    cell.number_format = TIME_FORMAT if "T" in text else DATE_FORMAT


def shown(value: object) -> JSON:
    """A cell's value as JSON; dates in ISO form."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat() if value.time() != time() else value.date().isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds() / 86_400
    return str(value)


def formula_of(cell: ExcelCell) -> str:
    """The formula that a cell holds; empty where it holds none, or a text that begins with `=`."""
    value = cell.value
    if cell.data_type != "f":
        return ""
    if isinstance(value, ArrayFormula):
        text = str(value.text or "")
        return text if text.startswith("=") else f"={text}"
    if isinstance(value, DataTableFormula):
        return ""
    return value if isinstance(value, str) and value.startswith("=") and len(value) > 1 else ""
