"""The slides, layouts and masters of a PowerPoint file: colours and fonts of shapes and texts."""

from docx.oxml.xmlchemy import BaseOxmlElement

from .brand import Report
from .colors import hex_of
from .theme import A, Theme

P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
SHAPES = (f"{P}sp", f"{P}cxnSp", f"{A}tc")
LARGE, LARGE_BOLD = 1800, 1400  # hundredths of a point


class Drawing:
    """Walks through the parts of one PowerPoint file."""

    def __init__(self, report: Report, theme: Theme) -> None:
        self.report, self.theme = report, theme

    def part(self, root: BaseOxmlElement, where: str) -> None:
        """Bring one part into the brand: what lies behind first, then the texts on it."""
        for number, run in enumerate(root.iter(f"{A}r"), 1):
            self._contrast(root, run, f"{where}, text {number}: {_text(run)[:40]!r}")
        colors = list(root.iter(f"{A}srgbClr"))
        for element in sorted(colors, key=_is_text):
            self._color(root, element, where)
        for latin in root.iter(f"{A}latin"):
            name = latin.get("typeface", "")
            new = self.report.font(name, f"{where}, font", heading=_in_title(latin))
            latin.set("typeface", new)

    def _contrast(self, root: BaseOxmlElement, run: BaseOxmlElement, where: str) -> None:
        properties = run.find(f"{A}rPr")
        fill = properties.find(f"{A}solidFill") if properties is not None else None
        color = self._filled(fill, new=False) or self.theme.color("tx1", new=False)
        ground = self._ground(root, run, new=False)
        size = int(properties.get("sz", 0)) if properties is not None else 0
        bold = properties is not None and properties.get("b") == "1"
        if color and ground and _text(run).strip():
            large = size >= LARGE or (bold and size >= LARGE_BOLD)
            self.report.contrast(color, ground, where, large=large)

    def _color(self, root: BaseOxmlElement, element: BaseOxmlElement, where: str) -> None:
        value = element.get("val", "")
        if len(value) != 6:
            return
        on = self._ground(root, element, new=True) if _is_text(element) else None
        kind = "text" if _is_text(element) else "shape"
        element.set("val", self.report.color(hex_of(value), f"{where}, {kind}", on)[1:])

    def _ground(self, root: BaseOxmlElement, element: BaseOxmlElement, *, new: bool) -> str | None:
        """The colour behind a text: its shape's, the slide's, the theme's."""
        for holder in element.iterancestors(*SHAPES):
            for kind in (f"{P}spPr", f"{A}tcPr"):
                found = self._filled(holder.find(f"{kind}/{A}solidFill"), new=new)
                if found:
                    return found
        page = root.find(f"{P}cSld/{P}bg/{P}bgPr/{A}solidFill")
        return self._filled(page, new=new) or self.theme.color("bg1", new=new)

    def _filled(self, fill: BaseOxmlElement | None, *, new: bool) -> str | None:
        if fill is None or not len(fill):
            return None
        value = fill[0].get("val", "")
        if fill[0].tag == f"{A}srgbClr" and len(value) == 6:
            return hex_of(value)
        return self.theme.color(value, new=new) if fill[0].tag == f"{A}schemeClr" else None


def _is_text(element: BaseOxmlElement) -> bool:
    kinds = (f"{A}rPr", f"{A}endParaRPr", f"{A}defRPr")
    return any(parent.tag in kinds for parent in element.iterancestors())


def _in_title(element: BaseOxmlElement) -> bool:
    if any(parent.tag == f"{P}titleStyle" for parent in element.iterancestors()):
        return True
    shape = next(element.iterancestors(f"{P}sp"), None)
    place = shape.find(f".//{P}nvPr/{P}ph") if shape is not None else None
    return place is not None and place.get("type") in ("title", "ctrTitle")


def _text(run: BaseOxmlElement) -> str:
    return "".join(part.text or "" for part in run.iter(f"{A}t"))
