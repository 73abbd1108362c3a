"""An Office theme: twelve colours and two fonts that styles and slides refer to."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from docx.oxml.xmlchemy import BaseOxmlElement

from .brand import Brand, Report, stays
from .colors import hex_of

A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
ALIASES = {"tx1": "dk1", "bg1": "lt1", "tx2": "dk2", "bg2": "lt2"}


@dataclass(slots=True)
class Theme:
    """The colours by slot as the file has them, and as the brand will have them."""

    root: BaseOxmlElement | None = None
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, root: BaseOxmlElement) -> "Theme":
        """The theme of a part."""
        found = {name: color for name, _, color in _slots(root)}
        return cls(root, found, dict(found))

    def color(self, name: str, *, new: bool) -> str | None:
        """The colour that a text or shape names."""
        slot = ALIASES.get(name, name)
        return (self.after if new else self.before).get(slot)

    def brand(self, report: Report, where: str) -> None:
        """Give the theme the brand's colours and fonts."""
        if self.root is None:
            return
        wanted = _wanted(report.brand)
        for name, slot, color in list(_slots(self.root)):
            new = wanted[name]
            if color not in set(report.brand.colors.values()):
                report.color(color, f"{where}, {name}")
            if new != color:
                report.changed[color] = new
            for old in list(slot):
                slot.remove(old)
            slot.append(slot.makeelement(f"{A}srgbClr", {"val": new[1:]}))
            self.after[name] = new
        for kind, heading in (("majorFont", True), ("minorFont", False)):
            latin = self.root.find(f".//{A}{kind}/{A}latin")
            if latin is not None and not stays(latin.get("typeface", "")):
                report.font(latin.get("typeface", ""), f"{where}, {kind}", heading=heading)
                brand = report.brand
                latin.set("typeface", brand.heading_font if heading else brand.body_font)


def _slots(root: BaseOxmlElement) -> Iterator[tuple[str, BaseOxmlElement, str]]:
    scheme = root.find(f".//{A}clrScheme")
    for slot in scheme if scheme is not None else ():
        value = (slot[0].get("lastClr") or slot[0].get("val")) if len(slot) else None
        if value and len(value) == 6:
            yield slot.tag.removeprefix(A), slot, hex_of(value)


def _wanted(brand: Brand) -> dict[str, str]:
    """What each slot of a theme becomes."""
    colors = brand.colors
    base = {"dk1": colors["text"], "lt1": colors["background"], "dk2": brand.heading}
    others = [c for n, c in colors.items() if n not in ("background", "text", "heading")]
    others = others or [brand.heading]
    accents = {f"accent{n + 1}": others[n % len(others)] for n in range(6)}
    links = {"hlink": others[0], "folHlink": others[-1]}
    return {**base, "lt2": colors.get("surface", colors["background"]), **accents, **links}
