"""A PDF file opened with care: sizes first, then two readers that must agree that it is one."""

# mypy: disable-error-code="import-untyped"

import io
import re
from pathlib import Path

import pdfplumber
import pypdfium2
import pypdfium2.raw as pdfium
from pypdf import PdfReader, PdfWriter
from pypdf.errors import PyPdfError

from ai_stack.skill import SkillFailed

MAX_BYTES, MAX_PAGES = 64 << 20, 2000
UNFLATTENED = "Its notes and fields cannot be made part of the pages."
DAMAGED = "This file is damaged, or no PDF: it cannot be read."
FAULTS = (
    *(PyPdfError, pypdfium2.PdfiumError, pdfplumber.utils.exceptions.PdfminerException),
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, EOFError),
    *(RecursionError, NotImplementedError, OverflowError, ZeroDivisionError, OSError),
)
PART = re.compile(r"(\d*)(-?)(\d*)")


def checked(path: Path) -> bytes:
    """The bytes of a PDF; SkillFailed for what is none, too large or locked."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise SkillFailed(f"The file must be a PDF of at most {MAX_BYTES >> 20} MiB.")
    data = path.read_bytes()
    if b"%PDF-" not in data[:1024]:
        raise SkillFailed("This is no PDF.")
    try:
        with pypdfium2.PdfDocument(data) as document:
            count = len(document)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise SkillFailed("It needs a password: save it without." if locked else DAMAGED) from None
    if not 0 < count <= MAX_PAGES:
        raise SkillFailed(f"The file has {count} pages; 1 to {MAX_PAGES} are read.")
    return data


def reader_of(data: bytes) -> PdfReader:
    """A reader of a PDF that `checked` let pass."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            reader.decrypt("")
        len(reader.pages)
    except FAULTS:
        raise SkillFailed(DAMAGED) from None
    return reader


def written(writer: PdfWriter) -> bytes:
    """The file that a writer makes; it must open again."""
    out = io.BytesIO()
    try:
        writer.write(out)
        with pypdfium2.PdfDocument(out.getvalue()) as document:
            len(document)
    except FAULTS:
        raise SkillFailed("This PDF is built so that it cannot be written anew.") from None
    return out.getvalue()


def flattened(data: bytes) -> bytes:
    """The file with its notes and form fields made part of the pages."""
    out = io.BytesIO()
    try:
        with pypdfium2.PdfDocument(data) as document:
            document.init_forms()
            for number in range(len(document)):
                page = document[number]
                done = pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY)
                page.close()
                if done == pdfium.FLATTEN_FAIL:
                    raise SkillFailed(UNFLATTENED)
            document.save(out)
    except FAULTS:
        raise SkillFailed(UNFLATTENED) from None
    return out.getvalue()


def page_numbers(ranges: str, count: int) -> list[int]:
    """Pages from 0 for what a caller wrote; all of them for nothing. SkillFailed."""
    if not ranges.strip():
        return list(range(count))
    found: list[int] = []
    for part in ranges.split(","):
        match = PART.fullmatch(part.strip())
        if match is None or not (match[1] or match[3]):
            raise SkillFailed(f"{part[:40]!r} names no pages; write as in 1,3,5-7.")
        first, dash, last = match.groups()
        low = int(first) if first else count - int(last) + 1
        high = int(last) if first and last else (count if dash else low)
        if not 1 <= low <= high <= count:
            raise SkillFailed(f"The pages {part.strip()[:40]} are not all there; it has {count}.")
        found += range(low - 1, high)
    return found
