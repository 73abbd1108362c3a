"""Fonts for new documents: the standard ones, or one of the machine's that has the signs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reportlab.lib.fonts import addMapping
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont

FOLDERS = ("/usr/share/fonts", "/run/current-system/sw/share/X11/fonts", "/usr/local/share/fonts")
FAMILIES = (
    ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono"),
    ("NotoSans-Regular", "NotoSans-Bold", "NotoSans-Italic", "NotoSansMono-Regular"),
    (
        "LiberationSans-Regular",
        "LiberationSans-Bold",
        "LiberationSans-Italic",
        "LiberationMono-Regular",
    ),
)


@dataclass(frozen=True, slots=True)
class Fonts:
    """Names to write with; `lacking` has the signs that they do not have."""

    text: str = "Helvetica"
    bold: str = "Helvetica-Bold"
    mono: str = "Courier"
    lacking: str = ""


def fonts_for(texts: Iterable[str]) -> Fonts:
    """The fonts that have most of the signs of these texts."""
    signs = {sign for text in texts for sign in text if sign not in "\n\t"}
    if not _beyond_latin(signs):
        return Fonts()
    found = [fonts for family in FAMILIES if (fonts := _family(family, signs))]
    lacking = "".join(sorted(_beyond_latin(signs)))
    return min(found, key=lambda fonts: len(fonts.lacking), default=Fonts(lacking=lacking))


def _beyond_latin(signs: set[str]) -> set[str]:
    return {sign for sign in signs if not sign.encode("cp1252", "ignore")}


def _family(names: tuple[str, str, str, str], signs: set[str]) -> Fonts | None:
    files = [_file(name) for name in names]
    if files[0] is None:
        return None
    regular = files[0]
    try:
        for name, file in zip(names, files, strict=True):
            pdfmetrics.registerFont(TTFont(name, str(file or regular)))
    except TTFError:
        return None
    for bold, italic, which in ((0, 0, 0), (1, 0, 1), (0, 1, 2), (1, 1, 1)):
        addMapping(names[0], bold, italic, names[which])
    known = pdfmetrics.getFont(names[0]).face.charToGlyph
    lacking = "".join(sorted(sign for sign in signs if ord(sign) not in known))
    return Fonts(names[0], names[1], names[3], lacking)


def _file(name: str) -> Path | None:
    for folder in FOLDERS:
        found = next(Path(folder).rglob(f"{name}.ttf"), None)
        if found is not None:
            return found
    return None
