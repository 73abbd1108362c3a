"""Where words stand on a page: characters with their boxes, and matches among them.

Coordinates are fractions of the page as it is shown, from its upper left corner.
"""

# mypy: disable-error-code="import-untyped"

import re
from collections.abc import Iterator, Sequence
from ctypes import c_int
from dataclasses import dataclass
from typing import TypeAlias

import pypdfium2
import pypdfium2.raw as pdfium

from ai_stack.skill import SkillFailed

Box: TypeAlias = tuple[float, float, float, float]
GRID = 1_000_000
MAX_CHARACTERS = 200_000
SOFT, NONE = "\u00ad", "\ufffd"  # a hyphen at a line's end; a sign without meaning
HYPHENS = f"-{SOFT}\u2010\u2011"
HYPHEN_CODES = (0x02, 0xFFFE)


@dataclass(frozen=True, slots=True)
class Character:
    """A character as it is shown, and the box that it fills."""

    sign: str
    box: Box


class Search:
    """What is looked for: terms whatever their case, and patterns."""

    def __init__(self, terms: Sequence[str], patterns: Sequence[str]) -> None:
        self.terms = [term for term in (plain(t) for t in terms) if term]
        try:
            self.patterns = [re.compile(p, re.IGNORECASE) for p in patterns]
        except (re.error, RecursionError, OverflowError):
            raise SkillFailed("One of the patterns is no regular expression.") from None

    def found_in(self, text: str) -> list[tuple[int, int]]:
        """The places of matches in a text that `folded` made."""
        places = [
            (match.start(), match.end())
            for term in self.terms
            for match in re.finditer(re.escape(term), text)
        ]
        for pattern in self.patterns:
            places += [m.span() for m in pattern.finditer(text) if m.end() > m.start()]
        return places

    def marks(self, characters: Sequence[Character]) -> set[int]:
        """The characters that are part of a match; line breaks and hyphens hide none."""
        found: set[int] = set()
        for joined in (False, True):
            text, origins = folded([c.sign for c in characters], joined=joined)
            for start, end in self.found_in(text):
                found.update(origins[start:end])
        return found

    def has(self, text: str) -> bool:
        """Whether a text has a match, read in either way."""
        return any(self.found_in(folded(text, joined=joined)[0]) for joined in (False, True))


def plain(text: str) -> str:
    """A text with single spaces and small letters."""
    return folded(text, joined=False)[0].strip()


def folded(signs: Sequence[str], *, joined: bool) -> tuple[str, list[int]]:
    """A text with single spaces and small letters, and where each of its letters came from.

    `joined` puts words together that a hyphen parts at the end of a line.
    """
    text: list[str] = []
    origins: list[int] = []
    n = 0
    while n < len(signs):
        sign = signs[n]
        after = n + 1
        while after < len(signs) and signs[after].isspace():
            after += 1
        if joined and sign in HYPHENS and (after > n + 1 or sign == SOFT):
            n = after
            continue
        if sign.isspace():
            sign, step = " ", after - n
        else:
            sign, step = _small(sign), 1
        if sign != " " or (text and text[-1] != " "):
            text += sign
            origins += [n] * len(sign)
        n += step
    return "".join(text), origins


def _small(sign: str) -> str:
    return {
        "\u00a0": " ",
        SOFT: "-",
        "\u2010": "-",
        "\u2011": "-",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\u2019": "'",
    }.get(sign, sign.lower())


def characters(page: pypdfium2.PdfPage) -> list[Character]:
    """The characters of a page in reading order."""
    text = page.get_textpage()
    count = text.count_chars()
    if count > MAX_CHARACTERS:
        raise SkillFailed(f"A page has more than {MAX_CHARACTERS:,} characters.")
    return list(_characters(page, text, count))


def _characters(
    page: pypdfium2.PdfPage, text: pypdfium2.PdfTextPage, count: int
) -> Iterator[Character]:
    for n in range(count):
        code = pdfium.FPDFText_GetUnicode(text, n)
        sign = SOFT if code in HYPHEN_CODES else (chr(code) if code else NONE)
        loose, tight = text.get_charbox(n, loose=True), text.get_charbox(n)
        corners = [_shown(page, *corner) for box in (loose, tight) for corner in _corners(box)]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        yield Character(sign, (min(xs), min(ys), max(xs), max(ys)))


def _corners(box: tuple[float, float, float, float]) -> tuple[tuple[float, float], ...]:
    left, bottom, right, top = box
    return ((left, bottom), (right, top), (left, top), (right, bottom))


def _shown(page: pypdfium2.PdfPage, x: float, y: float) -> tuple[float, float]:
    """A point of the page's own plane on the page as it is shown and turned."""
    column, row = c_int(), c_int()
    pdfium.FPDF_PageToDevice(page, 0, 0, GRID, GRID, 0, x, y, column, row)
    return column.value / GRID, row.value / GRID
