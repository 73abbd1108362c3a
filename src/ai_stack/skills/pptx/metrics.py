"""How wide and high text is: by the metrics of its font, nothing guessed where they are known."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont
from reportlab.pdfbase.pdfmetrics import stringWidth

FOLDERS = ("/usr/share/fonts", "/run/current-system/sw/share/X11/fonts", "/usr/local/share/fonts")
STANDARD = {
    "arial": ("Helvetica", "Helvetica-Bold"),
    "helvetica": ("Helvetica", "Helvetica-Bold"),
    "liberation sans": ("Helvetica", "Helvetica-Bold"),
    "times new roman": ("Times-Roman", "Times-Bold"),
    "liberation serif": ("Times-Roman", "Times-Bold"),
    "courier new": ("Courier", "Courier-Bold"),
}
LINE = 1.2  # of the size, as PowerPoint and LibreOffice set single lines
UNKNOWN, OTHER_SIGN, AT = 1.15, 0.75, 200


def is_known(font: str) -> bool:
    """Whether a font's own metrics are at hand."""
    return font.lower() in STANDARD or _file(font, False) is not None


@lru_cache(maxsize=100_000)
def width(text: str, font: str, size: float, bold: bool = False) -> float:
    """The width of a line in points."""
    names = STANDARD.get(font.lower())
    if names is None and (file := _file(font, bold)) is not None:
        return float(_face(file).getlength(text)) * size / AT
    latin = "".join(sign for sign in text if sign.encode("cp1252", "ignore"))
    found = float(stringWidth(latin, (names or STANDARD["arial"])[bold], size))
    found *= 1.0 if names else UNKNOWN
    return found + sum(_other(sign) * size for sign in text if not sign.encode("cp1252", "ignore"))


def lines(text: str, font: str, size: float, room: float, bold: bool = False) -> list[str]:
    """The lines that a text is broken into; a word that is wider than the room is broken too."""
    found: list[str] = []
    for paragraph in text.replace("\v", "\n").split("\n"):
        line = ""
        for word in paragraph.split(" "):
            candidate = f"{line} {word}" if line else word
            if width(candidate, font, size, bold) <= room:
                line = candidate
                continue
            if line:
                found.append(line)
            *broken, line = _broken(word, font, size, room, bold)
            found += broken
        found.append(line)
    return found


def height(texts: Sequence[str], font: str, size: float, room: float, bold: bool = False) -> float:
    """The height in points of paragraphs of one look, one below the other."""
    return sum(len(lines(t, font, size, room, bold)) for t in texts) * size * LINE


def _broken(word: str, font: str, size: float, room: float, bold: bool) -> list[str]:
    parts = [""]
    for sign in word:
        if parts[-1] and width(parts[-1] + sign, font, size, bold) > room:
            parts.append("")
        parts[-1] += sign
    return parts


def _other(sign: str) -> float:
    return 1.0 if unicodedata.east_asian_width(sign) in "WF" else OTHER_SIGN


@lru_cache(maxsize=64)
def _file(font: str, bold: bool) -> Path | None:
    plain = font.replace(" ", "")
    if not plain.isalnum():
        return None
    for name in (f"{plain}-Bold", plain) if bold else (plain, f"{plain}-Regular"):
        for folder in FOLDERS:
            for ending in ("ttf", "otf"):
                found = next(Path(folder).rglob(f"{name}.{ending}"), None)
                if found is not None:
                    return found
    return None


@lru_cache(maxsize=16)
def _face(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), AT)
