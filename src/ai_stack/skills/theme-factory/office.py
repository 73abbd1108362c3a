"""A theme in Word and PowerPoint files."""

import io
from collections.abc import Iterator

from docx import Document
from docx.document import Document as Docx
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.exceptions import OpcError
from docx.opc.oxml import serialize_part_xml
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import qn
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.shared import RGBColor
from docx.styles.style import BaseStyle
from pptx import Presentation
from pptx.exc import PythonPptxError

from ai_stack.skill import JSON, SkillFailed
from ai_stack.skill.office import DAMAGE, WORD_OR_SLIDES

from .palette import TEXT, Theme, contrast, hex_of

FAULTS = (OpcError, PythonPptxError, *DAMAGE)
A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
FONTS = ("w:ascii", "w:hAnsi", "w:cs", "w:eastAsia")
OF_THEME = ("asciiTheme", "hAnsiTheme", "cstheme", "eastAsiaTheme")
MAX_TOLD = 100
EARLIER = {  # what stands before the page's colour in the settings, by their schema
    *(qn(f"w:{name}") for name in ("writeProtection", "view", "zoom", "removeDateAndTime")),
    *(qn(f"w:{name}") for name in ("removePersonalInformation", "doNotDisplayPageBoundaries")),
}


def document(data: bytes, theme: Theme) -> tuple[bytes, dict[str, JSON]]:
    """A Word file in a theme, and what in it stays as it was set by hand."""
    try:
        found = Document(io.BytesIO(data))
        for relation in found.part.rels.values():
            if relation.reltype == RELATIONSHIP_TYPE.THEME:
                _theme_part(relation.target_part, theme)
        _styles(found, theme)
        _background(found, theme.colors.background)
        own = list(_own_colors(found.element.body, qn("w:color"), qn("w:val")))
        out = io.BytesIO()
        found.save(out)
    except FAULTS:
        raise SkillFailed(WORD_OR_SLIDES.damaged) from None
    return out.getvalue(), _told(own, theme)


def presentation(data: bytes, theme: Theme) -> tuple[bytes, dict[str, JSON]]:
    """A PowerPoint file in a theme, and what in it stays as it was set by hand."""
    try:
        deck = Presentation(io.BytesIO(data))
        for master in deck.slide_masters:
            _theme_part(master.part.part_related_by(RELATIONSHIP_TYPE.THEME), theme)
        own = [
            color
            for slide in deck.slides
            for run in slide._element.iter(f"{A}rPr")
            for color in _own_colors(run, f"{A}srgbClr", "val")
        ]
        out = io.BytesIO()
        deck.save(out)
    except FAULTS:
        raise SkillFailed(WORD_OR_SLIDES.damaged) from None
    return out.getvalue(), _told(own, theme)


def _theme_part(part, theme: Theme) -> None:  # type: ignore[no-untyped-def]
    """The twelve colours and two fonts that styles and slides refer to."""
    root = parse_xml(part.blob)
    scheme = root.find(f".//{A}clrScheme")
    slots = _slots(theme)
    for slot in scheme if scheme is not None else ():
        color = slots.get(slot.tag.removeprefix(A))
        if color:
            for old in list(slot):
                slot.remove(old)
            slot.append(slot.makeelement(f"{A}srgbClr", {"val": color[1:]}))
    for kind, font in (("majorFont", theme.heading_font), ("minorFont", theme.body_font)):
        latin = root.find(f".//{A}{kind}/{A}latin")
        if latin is not None:
            latin.set("typeface", font)
    root.set("name", theme.name)
    part._blob = serialize_part_xml(root)


def _slots(theme: Theme) -> dict[str, str]:
    c = theme.colors
    accents = (c.primary, c.accent, c.muted, c.text, c.border, c.surface)
    named = {"dk1": c.text, "lt1": c.background, "dk2": c.primary, "lt2": c.surface}
    numbered = {f"accent{n}": color for n, color in enumerate(accents, 1)}
    return {**named, **numbered, "hlink": c.primary, "folHlink": c.accent}


def _styles(found: Docx, theme: Theme) -> None:
    colors = theme.colors
    for style in found.styles:
        name = str(style.name or "").lower()
        if name == "normal":
            _look(style, colors.text, theme.body_font)
        elif name.startswith(("heading", "title")):
            _look(style, colors.primary, theme.heading_font)
        elif name in ("subtitle", "caption", "quote", "intense quote"):
            _look(style, colors.muted, theme.body_font)
        elif name == "hyperlink":
            _look(style, colors.primary, theme.body_font)


def _look(style: BaseStyle, color: str, font: str) -> None:
    """A style's colour and font, set so that no reference to a former theme is left."""
    properties = style.element.get_or_add_rPr()
    for old in properties.findall(qn("w:color")):
        properties.remove(old)
    style.font.color.rgb = RGBColor.from_string(color[1:])  # type: ignore[attr-defined]
    fonts = properties.get_or_add_rFonts()
    for name in OF_THEME:
        fonts.attrib.pop(qn(f"w:{name}"), None)
    for name in FONTS:
        fonts.set(qn(name), font)


def _background(found: Docx, color: str) -> None:
    """The page's colour, and the setting without which Word does not show it."""
    root = found.element
    for old in root.findall(qn("w:background")):
        root.remove(old)
    background = OxmlElement("w:background")
    background.set(qn("w:color"), color[1:])
    root.insert(0, background)
    settings = found.settings.element
    if settings.find(qn("w:displayBackgroundShape")) is None:
        before = [n for n, child in enumerate(settings) if child.tag in EARLIER]
        settings.insert(max(before, default=-1) + 1, OxmlElement("w:displayBackgroundShape"))


def _own_colors(root: BaseOxmlElement, tag: str, attribute: str) -> Iterator[str]:
    for element in root.iter(tag):
        value = element.get(attribute, "")
        if len(value) == 6:
            yield hex_of(value)


def _told(own: list[str], theme: Theme) -> dict[str, JSON]:
    ground = theme.colors.background
    bad = sorted({color for color in own if contrast(color, ground) < TEXT})
    return {"own_colors": len(own), "unreadable": bad[:MAX_TOLD]}
