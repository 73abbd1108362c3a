"""Fonts, and the measure of text in them, by their own metrics.

Vera comes with ReportLab; what it cannot write is set in DejaVu Sans where the machine has it, or
in a font that the caller gives.
"""

import struct
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont
from reportlab.pdfbase.ttfonts import TTFError, TTFont, TTFontFile

from ai_stack.skill import SkillFailed

UNITS = 1000
LARGEST_BYTES = 30 << 20
PLACES = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("/run/current-system/sw/share/X11/fonts"),
)
FAULTS = (
    TTFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    AssertionError,
    struct.error,
)


@dataclass(frozen=True)
class Face:
    """One font file; its measures are parts of the size."""

    path: Path
    name: str
    bold: bool = False

    @property
    def ascent(self) -> float:
        return _sized(self.path).getmetrics()[0] / UNITS

    @property
    def descent(self) -> float:
        return _sized(self.path).getmetrics()[1] / UNITS

    def advance(self, text: str) -> float:
        """How far a line at size 1 moves the pen: the farther of with and without kerning, for
        writers differ in that."""
        return max(_advance(self.path, text), float(_sized(self.path).getlength(text)) / UNITS)

    def overhang(self, text: str) -> float:
        """How far the ink of a line at size 1 begins before the pen does."""
        return max(0.0, -_ink(self.path, text)[0])

    def width(self, text: str) -> float:
        """How wide a line is at size 1, its ink and its advance."""
        return self.overhang(text) + max(self.advance(text), _ink(self.path, text)[1])


@dataclass(frozen=True)
class Family:
    """A plain and a bold face."""

    plain: Face
    bold: Face

    def face(self, bold: bool) -> Face:
        return self.bold if bold else self.plain


def family_for(text: str, given: Path | None) -> Family:
    """The first family that can write all of a text; SkillFailed names what none can."""
    wanted = {c for c in text if not c.isspace()}
    if any(unicodedata.bidirectional(c) in ("R", "AL") for c in wanted) or _shaped(wanted):
        raise SkillFailed("This writing needs its letters joined or reordered, which is not done.")
    lacking: set[str] = set()
    for family in _families(given):
        lacking = {
            c
            for c in wanted
            if not {ord(c)} <= _letters(family.plain.path) & _letters(family.bold.path)
        }
        if not lacking:
            return family
    raise SkillFailed(
        f"No font here has {' '.join(sorted(lacking)[:20])}; give one that has them as `font`."
    )


def _shaped(characters: set[str]) -> bool:
    """Whether a script of South or South East Asia is among them."""
    return any("\u0900" <= c <= "\u109f" or "\u1780" <= c <= "\u17ff" for c in characters)


def _families(given: Path | None) -> Iterator[Family]:
    if given is not None:
        face = Face(_usable(given), "Given")
        yield Family(face, Face(face.path, "GivenBold", bold=True))
        return
    vera = _vera()
    yield Family(Face(vera / "Vera.ttf", "Vera"), Face(vera / "VeraBd.ttf", "VeraBold", True))
    if found := _dejavu():
        bold = found.with_name("DejaVuSans-Bold.ttf")
        yield Family(Face(found, "DejaVu"), Face(bold, "DejaVuBold", True))


def _vera() -> Path:
    spec = find_spec("reportlab")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "fonts"


@lru_cache(1)
def _dejavu() -> Path | None:
    for place in PLACES:
        for found in place.rglob("DejaVuSans.ttf") if place.is_dir() else ():
            if found.with_name("DejaVuSans-Bold.ttf").is_file():
                return found
    return None


def _usable(path: Path) -> Path:
    """The file, when it is a TrueType font that all writers take."""
    if not path.is_file() or not 0 < path.stat().st_size <= LARGEST_BYTES:
        raise SkillFailed(f"`font` must be a TrueType file of at most {LARGEST_BYTES >> 20} MiB.")
    try:
        TTFont("probe", str(path))
        ImageFont.truetype(str(path), 12)
    except FAULTS:
        raise SkillFailed("`font` is no TrueType font that can be embedded.") from None
    return path


@lru_cache(16)
def _letters(path: Path) -> frozenset[int]:
    return frozenset(TTFontFile(str(path)).charToGlyph)


@lru_cache(16)
def _sized(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), UNITS)


@lru_cache(16)
def _pdf_font(path: Path) -> TTFont:
    return TTFont("measure", str(path))


@lru_cache(8192)
def _ink(path: Path, text: str) -> tuple[float, float]:
    """Where the ink of a line begins and ends, from the pen's start."""
    left, _, right, _ = _sized(path).getbbox(text, anchor="ls")
    return left / UNITS, right / UNITS


@lru_cache(8192)
def _advance(path: Path, text: str) -> float:
    return float(_pdf_font(path).stringWidth(text, 1.0))
