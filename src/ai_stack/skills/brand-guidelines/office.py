"""Word and PowerPoint files part by part: their theme, and which parts hold colours and fonts."""

import io
import re
import zipfile
from collections.abc import Mapping

from docx.opc.exceptions import OpcError
from docx.opc.oxml import serialize_part_xml
from docx.oxml import parse_xml
from pptx.exc import PythonPptxError

from ai_stack.skill import SkillFailed
from ai_stack.skill.office import DAMAGE, WORD_OR_SLIDES

from .brand import Report
from .drawing import Drawing
from .theme import Theme
from .wording import Wording

FAULTS = (OpcError, PythonPptxError, *DAMAGE)
WORD = re.compile(r"word/(document|styles|header\d*|footer\d*|footnotes|endnotes|numbering)\.xml")
SLIDE = re.compile(r"ppt/(slides|slideLayouts|slideMasters)/[^/]+\.xml")
THEME = re.compile(r"(word|ppt)/theme/theme\d*\.xml")


def branded(data: bytes, report: Report) -> bytes:
    """The file in the brand; what was not of it is in the report."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        return _zipped({**parts, **_changed(parts, report)})
    except FAULTS:
        raise SkillFailed(WORD_OR_SLIDES.damaged) from None


def _changed(parts: Mapping[str, bytes], report: Report) -> dict[str, bytes]:
    """The parts that hold colours and fonts, changed."""
    theme = Theme()
    roots = {n: parse_xml(d) for n, d in parts.items() if _part(n)}
    for name in sorted(n for n in roots if THEME.fullmatch(n)):
        theme = Theme.of(roots[name])
        theme.brand(report, name)
    walk = Wording(report, theme, roots.get("word/styles.xml"))
    drawing = Drawing(report, theme)
    for name, root in sorted(roots.items()):
        if WORD.fullmatch(name):
            walk.part(root, name.removeprefix("word/"))
        elif SLIDE.fullmatch(name):
            drawing.part(root, name.removeprefix("ppt/"))
    return {name: serialize_part_xml(root) for name, root in roots.items()}


def _part(name: str) -> bool:
    return any(kind.fullmatch(name) for kind in (WORD, SLIDE, THEME))


def _zipped(parts: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in parts.items():
            new.writestr(name, data)
    return out.getvalue()
