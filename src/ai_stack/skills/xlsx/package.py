"""The file itself: a zip of XML, looked at before a library opens it.

Sizes are those of the zip's directory; zipfile never reads more of a member than that.
"""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from openpyxl import Workbook, load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from ai_stack.skill import SkillFailed

MAX_BYTES, MAX_UNPACKED, MAX_PARTS, MAX_CELLS = 64 << 20, 512 << 20, 5000, 1_000_000
MAX_XML = 192 << 20
MAIN = "xl/workbook.xml"
DAMAGED = "This file is damaged, or no Excel workbook: save it anew as .xlsx."
FAULTS = (
    *(InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, TypeError),
    *(AttributeError, IndexError, SyntaxError, EOFError, OSError, NotImplementedError),
)


def opened(data: bytes, *, values: bool = False) -> Workbook:
    """The workbook with its formulas, or with the values that are stored for them."""
    try:
        book = load_workbook(io.BytesIO(data), data_only=values)
    except FAULTS:
        raise SkillFailed(DAMAGED) from None
    if sum(len(sheet._cells) for sheet in book.worksheets) > MAX_CELLS:
        raise SkillFailed(f"The workbook has more than {MAX_CELLS:,} cells.")
    if not book.worksheets:
        raise SkillFailed("The workbook has no sheet of cells.")
    return book


def checked(path: Path) -> bytes:
    """The bytes of a workbook that is safe to open; SkillFailed."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise SkillFailed(f"The file must be an Excel workbook of at most {MAX_BYTES >> 20} MiB.")
    data = path.read_bytes()
    if data[:4] == b"\xd0\xcf\x11\xe0":
        raise SkillFailed("This is an old .xls or a file with a password: save it as plain .xlsx.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_parts(archive)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError):
        raise SkillFailed(DAMAGED) from None
    return data


def lost_parts(before: bytes, after: bytes) -> list[str]:
    """Kinds of parts that a workbook had and has no more, such as slicers."""
    return sorted(
        _kinds(before) - _kinds(after) - {"calcChain", "sharedStrings", "printerSettings"}
    )


def _kinds(data: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names: Iterable[str] = archive.namelist()
    return {Path(n).stem.rstrip("0123456789") for n in names if n.startswith("xl/") and ".xml" in n}


def _check_parts(archive: zipfile.ZipFile) -> None:
    parts = archive.infolist()
    names = {part.filename.lower() for part in parts}
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
        raise SkillFailed(f"The file unpacks to more than {MAX_UNPACKED >> 20} MiB or 5000 parts.")
    if MAIN not in names:
        raise SkillFailed("This is no Excel workbook (.xlsx).")
    if any("vbaproject" in name or "/macrosheets/" in name for name in names):
        raise SkillFailed("This file has macros: save it as .xlsx, without them.")
    for part in parts:
        if part.filename.lower().endswith((".xml", ".rels")):
            _check_xml(archive, part)


def _check_xml(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    if part.flag_bits & 1:
        raise SkillFailed("This file has a password: save it without one.")
    if part.file_size > MAX_XML:
        raise SkillFailed(f"A part of the file is larger than {MAX_XML >> 20} MiB.")
    plain = archive.read(part).replace(b"\0", b"")
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise SkillFailed("This file declares XML entities, which no workbook does.")
