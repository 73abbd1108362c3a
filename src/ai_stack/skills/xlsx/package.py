"""The file itself, looked at before a library opens it."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from openpyxl import Workbook, load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from ai_stack.skill import SkillFailed
from ai_stack.skill.office import DAMAGE, Kind

MAX_CELLS = 1_000_000
FAULTS = (
    *(*DAMAGE, InvalidFileException, TypeError, IndexError, EOFError, OSError),
    NotImplementedError,
)
WORKBOOK = Kind(
    noun="an Excel workbook",
    mains=frozenset({"xl/workbook.xml"}),
    other="This is no Excel workbook (.xlsx).",
    old="This is an old .xls or a file with a password: save it as plain .xlsx.",
    damaged="This file is damaged, or no Excel workbook: save it anew as .xlsx.",
    with_macros="This file has macros: save it as .xlsx, without them.",
    with_entities="This file declares XML entities, which no workbook does.",
    macros=("vbaproject", "/macrosheets/"),
    any_case=True,
    max_xml=192 << 20,
)


def opened(data: bytes, *, values: bool = False) -> Workbook:
    """The workbook with its formulas, or with the values that are stored for them."""
    try:
        book = load_workbook(io.BytesIO(data), data_only=values)
    except FAULTS:
        raise SkillFailed(WORKBOOK.damaged) from None
    if sum(len(sheet._cells) for sheet in book.worksheets) > MAX_CELLS:
        raise SkillFailed(f"The workbook has more than {MAX_CELLS:,} cells.")
    if not book.worksheets:
        raise SkillFailed("The workbook has no sheet of cells.")
    return book


def lost_parts(before: bytes, after: bytes) -> list[str]:
    """Kinds of parts that a workbook had and has no more, such as slicers."""
    return sorted(
        _kinds(before) - _kinds(after) - {"calcChain", "sharedStrings", "printerSettings"}
    )


def _kinds(data: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names: Iterable[str] = archive.namelist()
    return {Path(n).stem.rstrip("0123456789") for n in names if n.startswith("xl/") and ".xml" in n}
