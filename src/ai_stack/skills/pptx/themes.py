"""A presentation's theme: the colours and fonts that its slides follow."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pptx.opc.constants import RELATIONSHIP_TYPE
from pptx.opc.package import Part
from pptx.oxml import parse_xml
from pptx.oxml.ns import qn
from pptx.oxml.xmlchemy import serialize_for_reading
from pptx.presentation import Presentation as Deck
from pydantic import Field

from ai_stack.skill import SkillFailed

Color: TypeAlias = Annotated[str, Field(pattern=r"^#?[0-9A-Fa-f]{6}$")]
LEAST_CONTRAST = 4.5
FALLBACK = "Arial"


def fonts_of(deck: Deck) -> tuple[str, str]:
    """The fonts of headings and of text."""
    part = _theme(deck)
    if part is None:
        return FALLBACK, FALLBACK
    root = parse_xml(part.blob)
    return _font(root, "a:majorFont"), _font(root, "a:minorFont")


def set_fonts(deck: Deck, heading: str, body: str) -> None:
    """Give all masters other fonts; an empty name leaves one as it is."""
    for part in _themes(deck):
        root = parse_xml(part.blob)
        for kind, name in (("a:majorFont", heading), ("a:minorFont", body)):
            latin = root.find(f".//{qn(kind)}/{qn('a:latin')}")
            if name and latin is not None:
                latin.set("typeface", name)
        part._blob = serialize_for_reading(root).encode("utf-8")


def set_colors(deck: Deck, background: str, text: str, accents: Sequence[str]) -> None:
    """Give all masters other colours; SkillFailed for text that cannot be read."""
    if background and text and contrast(background, text) < LEAST_CONTRAST:
        ratio = contrast(background, text)
        raise SkillFailed(
            f"{text} on {background} has a contrast of {ratio:.1f}; 4.5 is the least."
        )
    wanted = {"a:lt1": background, "a:dk1": text, "a:dk2": text, "a:lt2": background}
    wanted |= {f"a:accent{n}": color for n, color in enumerate(accents[:6], 1)}
    for part in _themes(deck):
        root = parse_xml(part.blob)
        scheme = root.find(f".//{qn('a:clrScheme')}")
        for name, color in wanted.items():
            slot = scheme.find(qn(name)) if scheme is not None else None
            if color and slot is not None:
                _put(slot, color)
        part._blob = serialize_for_reading(root).encode("utf-8")


def colors_of(deck: Deck) -> dict[str, str]:
    """The theme's colours by their names."""
    part = _theme(deck)
    scheme = parse_xml(part.blob).find(f".//{qn('a:clrScheme')}") if part is not None else None
    found = {}
    for slot in scheme if scheme is not None else ():
        value = slot[0].get("lastClr") or slot[0].get("val") if len(slot) else None
        if value:
            found[slot.tag.rpartition("}")[2]] = f"#{value.upper()}"
    return found


def drop_own_fonts(deck: Deck, fonts: Sequence[str]) -> None:
    """Let runs follow the theme that name a font of the former one."""
    for slide in deck.slides:
        for latin in list(slide._element.iter(qn("a:latin"))):
            if latin.get("typeface") in fonts:
                latin.getparent().remove(latin)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    plain = color.removeprefix("#")
    parts = [int(plain[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _put(slot, color: str) -> None:  # type: ignore[no-untyped-def]
    for old in list(slot):
        slot.remove(old)
    new = slot.makeelement(qn("a:srgbClr"), {"val": color.removeprefix("#").upper()})
    slot.append(new)


def _font(root, kind: str) -> str:  # type: ignore[no-untyped-def]
    latin = root.find(f".//{qn(kind)}/{qn('a:latin')}")
    return (latin.get("typeface") if latin is not None else "") or FALLBACK


def _themes(deck: Deck) -> list[Part]:
    return [m.part.part_related_by(RELATIONSHIP_TYPE.THEME) for m in deck.slide_masters]


def _theme(deck: Deck) -> Part | None:
    found = _themes(deck)
    return found[0] if found else None
