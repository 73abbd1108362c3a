"""Spreadsheets (xlsx, xlsb, xls, ods): each sheet a section with one table."""

import datetime as dt
from io import BytesIO

from python_calamine import CalamineError, CalamineWorkbook, PasswordError, ZipError

from ai_stack.errors import InvalidRequest, TooLarge
from ai_stack.parsers import Parsed, Source, Value
from ai_stack.parsers.archive import opened, properties
from ai_stack.parsers.html import markdown_table

Cell = int | float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta


def parse(source: Source) -> Parsed:
    metadata = _checked(source)
    try:
        workbook = CalamineWorkbook.from_filelike(BytesIO(source.data))
        sections = [_section(workbook, name, source) for name in workbook.sheet_names]
    except PasswordError as error:
        raise InvalidRequest("This file is protected by a password.") from error
    except (CalamineError, ZipError, OSError, ValueError) as error:
        raise InvalidRequest("This spreadsheet is damaged or cut off.") from error
    text = "\n\n".join(filter(None, sections))
    title = str(metadata.pop("title", ""))
    return Parsed(text, title, {**metadata, "sheets": len(sections)})


def _checked(source: Source) -> dict[str, Value]:
    """The core properties of one in a zip container, whose sizes are checked first."""
    if source.data[:4] != b"PK\x03\x04":
        return {}
    with opened(source) as archive:
        return properties(archive)


def _section(workbook: CalamineWorkbook, name: str, source: Source) -> str:
    rows, size = [], 0
    for row in workbook.get_sheet_by_name(name).iter_rows():
        cells = [_shown(cell) for cell in row]
        size += sum(map(len, cells)) + 3 * len(cells)
        if size > source.limits.text_bytes:
            raise TooLarge("The text in this spreadsheet is larger than the stack accepts.")
        if any(cells):
            rows.append(cells)
    return f"## {name}\n\n{markdown_table(_narrowed(rows))}" if rows else ""


def _narrowed(rows: list[list[str]]) -> list[list[str]]:
    """Without the columns that are blank throughout."""
    used = [any(column) for column in zip(*rows, strict=True)]
    return [[cell for cell, keep in zip(row, used, strict=True) if keep] for row in rows]


def _shown(cell: Cell) -> str:
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, dt.datetime) and cell.time() == dt.time():
        return cell.date().isoformat()
    return cell.isoformat(" ") if isinstance(cell, dt.datetime) else str(cell)
