"""PDF by PDFium: the text of the pages, with the outline's entries as headings.

Nothing is rendered, so no image is ever decoded.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

import pypdfium2  # type: ignore[import-untyped]

from ai_stack.errors import InvalidRequest, TooLarge
from ai_stack.parsers import Parsed, Source, Value

PROPERTIES = {"Author": "author", "CreationDate": "created", "Subject": "subject"}
HYPHEN = re.compile("[\ufffe\x02]\\s*")
ENTRIES, PASSWORD = 20_000, 4
Headings = dict[int, list[tuple[int, str]]]


def parse(source: Source) -> Parsed:
    try:
        document = pypdfium2.PdfDocument(source.data)
        return _read(document, source)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == PASSWORD:
            raise InvalidRequest("This file is protected by a password.") from error
        raise InvalidRequest("This PDF is damaged or cut off.") from error


def _read(document: pypdfium2.PdfDocument, source: Source) -> Parsed:
    headings, pages, size = _headings(document), [], 0
    for number in range(len(document)):
        text = _titled(_page(document, number), headings.get(number, []))
        size += len(text)
        if size > source.limits.text_bytes:
            raise TooLarge("The text in this PDF is larger than the stack accepts.")
        if text.strip():
            pages.append(text)
    found = document.get_metadata_dict(skip_empty=True)
    metadata: dict[str, Value] = {PROPERTIES[k]: v for k, v in found.items() if k in PROPERTIES}
    return Parsed("\n\n".join(pages), found.get("Title", ""), {**metadata, "pages": len(document)})


def _page(document: pypdfium2.PdfDocument, number: int) -> str:
    page = document[number]
    textpage = page.get_textpage()
    try:
        return HYPHEN.sub("", textpage.get_text_bounded().replace("\r\n", "\n")).strip()
    finally:
        textpage.close()
        page.close()


def _headings(document: pypdfium2.PdfDocument) -> Headings:
    found: Headings = defaultdict(list)
    for level, title, page in _entries(document):
        found[page].append((level, title))
    return found


def _entries(document: pypdfium2.PdfDocument) -> Iterator[tuple[int, str, int]]:
    for count, entry in enumerate(document.get_toc(max_depth=6)):
        if count >= ENTRIES:
            return
        target = entry.get_dest()
        page = target.get_index() if target is not None else None
        title = " ".join(entry.get_title().split())
        if page is not None and title:
            yield entry.level + 1, title, page


def _titled(text: str, headings: list[tuple[int, str]]) -> str:
    """Lines that repeat an entry of the outline become headings; the others stay as they are."""
    if not text or not headings:
        return text
    wanted = {"".join(title.split()).lower(): (level, title) for level, title in headings}
    return "\n".join(_line(line, wanted) for line in text.split("\n"))


def _line(line: str, wanted: dict[str, tuple[int, str]]) -> str:
    found = wanted.get("".join(line.split()).lower())
    return f"\n{'#' * min(found[0], 6)} {found[1]}\n" if found else line
