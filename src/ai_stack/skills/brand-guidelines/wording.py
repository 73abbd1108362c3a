"""The parts of a Word file: colours and fonts of styles and of single texts."""

from collections.abc import Iterator

from docx.oxml.ns import qn
from docx.oxml.xmlchemy import BaseOxmlElement

from .brand import Report
from .colors import hex_of
from .theme import Theme

THEMED = ("themeColor", "themeTint", "themeShade", "themeFill", "themeFillTint", "themeFillShade")
FONTS = ("w:ascii", "w:hAnsi", "w:cs", "w:eastAsia")
LARGE, LARGE_BOLD = 36, 28  # half points


class Wording:
    """Walks through the parts of one Word file."""

    def __init__(self, report: Report, theme: Theme, styles: BaseOxmlElement | None) -> None:
        self.report, self.theme = report, theme
        self.styles: dict[str, BaseOxmlElement] = {}
        for style in styles.iter(qn("w:style")) if styles is not None else ():
            self.styles[style.get(qn("w:styleId"), "")] = style

    def part(self, root: BaseOxmlElement, where: str) -> None:
        """Bring one part into the brand."""
        for number, run in enumerate(root.iter(qn("w:r")), 1):
            self._contrast(run, f"{where}, text {number}: {_text(run)[:40]!r}")
        for shading in root.iter(qn("w:shd")):
            self._shade(shading, where)
        for element in root.iter(qn("w:color")):
            self._color(element, where)
        for fonts in root.iter(qn("w:rFonts")):
            self._fonts(fonts, where)

    def _contrast(self, run: BaseOxmlElement, where: str) -> None:
        color, large = self._look(run)
        if color is not None and _text(run).strip():
            self.report.contrast(color, _ground(run) or "#FFFFFF", where, large=large)

    def _look(self, run: BaseOxmlElement) -> tuple[str | None, bool]:
        """The colour of a text, its own or its styles', and whether it is large."""
        color, size, bold = None, 0, False
        for properties in self._properties(run):
            found = properties.find(qn("w:color"))
            if color is None and found is not None:
                color = _hex(found.get(qn("w:val")))
            half_points = properties.find(qn("w:sz"))
            size = size or int(half_points.get(qn("w:val"), 0) if half_points is not None else 0)
            bold = bold or properties.find(qn("w:b")) is not None
        return color, size >= LARGE or (bold and size >= LARGE_BOLD)

    def _properties(self, run: BaseOxmlElement) -> Iterator[BaseOxmlElement]:
        own = run.find(qn("w:rPr"))
        if own is not None:
            yield own
        named = own.find(qn("w:rStyle")) if own is not None else None
        paragraph = next(run.iterancestors(qn("w:p")), None)
        outer = paragraph.find(f"{qn('w:pPr')}/{qn('w:pStyle')}") if paragraph is not None else None
        for reference in (named, outer):
            style = (
                self.styles.get(reference.get(qn("w:val"), "")) if reference is not None else None
            )
            for _ in range(20):
                if style is None:
                    break
                if (properties := style.find(qn("w:rPr"))) is not None:
                    yield properties
                based = style.find(qn("w:basedOn"))
                style = self.styles.get(based.get(qn("w:val"), "")) if based is not None else None

    def _shade(self, shading: BaseOxmlElement, where: str) -> None:
        color = _hex(shading.get(qn("w:fill")))
        if color is not None:
            shading.set(qn("w:fill"), self.report.color(color, f"{where}, shading")[1:])
            _unthemed(shading)

    def _color(self, element: BaseOxmlElement, where: str) -> None:
        color = _hex(element.get(qn("w:val")))
        if color is None:
            return
        ground = _ground(element) or self.report.brand.colors["background"]
        style = next(element.iterancestors(qn("w:style")), None)
        new = self.report.color(color, f"{where}, text", ground)
        if style is not None and _is_heading(style):
            new = self.report.brand.heading
        element.set(qn("w:val"), new[1:])
        _unthemed(element)

    def _fonts(self, fonts: BaseOxmlElement, where: str) -> None:
        style = next(fonts.iterancestors(qn("w:style")), None)
        heading = _is_heading(style) if style is not None else _in_heading(fonts)
        for name in FONTS[:3]:
            value = fonts.get(qn(name))
            if value:
                fonts.set(qn(name), self.report.font(value, f"{where}, font", heading=heading))


def _ground(element: BaseOxmlElement) -> str | None:
    """The shading behind a text: its own, its paragraph's, its cell's."""
    for holder in (element, *element.iterancestors()):
        for kind in ("w:rPr", "w:pPr", "w:tcPr"):
            shading = holder.find(f"{qn(kind)}/{qn('w:shd')}")
            color = _hex(shading.get(qn("w:fill"))) if shading is not None else None
            if color is not None:
                return color
    return None


def _is_heading(style: BaseOxmlElement) -> bool:
    name = str(style.get(qn("w:styleId"), "")).lower()
    return name.startswith(("heading", "title", "subtitle"))


def _in_heading(element: BaseOxmlElement) -> bool:
    paragraph = next(element.iterancestors(qn("w:p")), None)
    style = paragraph.find(f"{qn('w:pPr')}/{qn('w:pStyle')}") if paragraph is not None else None
    name = str(style.get(qn("w:val"), "")) if style is not None else ""
    return name.lower().startswith(("heading", "title"))


def _unthemed(element: BaseOxmlElement) -> None:
    for name in THEMED:
        element.attrib.pop(qn(f"w:{name}"), None)


def _hex(value: str | None) -> str | None:
    """A colour; None for `auto` and the like."""
    return hex_of(value) if value and len(value) == 6 and value != "auto" else None


def _text(run: BaseOxmlElement) -> str:
    return "".join(part.text or "" for part in run.iter(qn("w:t")))
