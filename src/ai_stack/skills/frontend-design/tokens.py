"""Design tokens: what a caller says of a look, and the palettes that follow from it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import JSON

from .contrast import NEEDED, contrast, legible, mixed

Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Font = Literal["system", "serif", "mono", "humanist"]
STACKS: dict[Font, str] = {
    "system": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif",
    "serif": "Charter, 'Bitstream Charter', Georgia, Cambria, 'Liberation Serif', serif",
    "mono": "ui-monospace, 'Cascadia Code', Menlo, 'DejaVu Sans Mono', monospace",
    "humanist": "Optima, Candara, 'Noto Sans', 'DejaVu Sans', source-sans-pro, sans-serif",
}


class Tokens(BaseModel):
    """Only what differs from the default need be said."""

    model_config = ConfigDict(extra="forbid")
    brand: Annotated[Colour, Field(description="From which both palettes are derived.")] = "#0b5c8c"
    ground: Annotated[Colour | None, Field(description="Of the page, in light.")] = None
    ink: Annotated[Colour | None, Field(description="Of text, in light.")] = None
    dark_ground: Annotated[Colour | None, Field(description="Of the page, in dark.")] = None
    dark_ink: Annotated[Colour | None, Field(description="Of text, in dark.")] = None
    font: Annotated[Font, Field(description="Of text.")] = "system"
    heading_font: Annotated[Font | None, Field(description="Of headings; else as text.")] = None
    radius: Annotated[int, Field(ge=0, le=40, description="Of corners, in pixels.")] = 10
    space: Annotated[int, Field(ge=4, le=16, description="One step of spacing, in pixels.")] = 8
    scale: Annotated[float, Field(ge=1.05, le=1.5, description="Step between sizes of type.")] = (
        1.25
    )
    width: Annotated[int, Field(ge=480, le=1600, description="Widest column, in pixels.")] = 1080
    dark: Annotated[bool, Field(description="Follow a reader's dark setting.")] = True


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by what they are for, all legible on what they stand on."""

    ground: str
    surface: str
    ink: str
    muted: str
    line: str
    accent: str
    on_accent: str
    link: str


PAIRS = (
    ("ink", "ground"),
    ("ink", "surface"),
    ("muted", "ground"),
    ("muted", "surface"),
    ("link", "ground"),
    ("link", "surface"),
    ("on_accent", "accent"),
)


def light(tokens: Tokens) -> Palette:
    """The palette for light."""
    ground = tokens.ground or "#ffffff"
    return _palette(tokens.brand, ground, tokens.ink or mixed(tokens.brand, "#101418", 0.85))


def dark(tokens: Tokens) -> Palette:
    """The palette for dark."""
    ground = tokens.dark_ground or mixed(tokens.brand, "#0e1116", 0.92)
    accent = mixed(tokens.brand, "#ffffff", 0.35)
    return _palette(accent, ground, tokens.dark_ink or mixed(tokens.brand, "#f3f5f8", 0.95))


def _palette(brand: str, ground: str, ink: str) -> Palette:
    surface = mixed(ground, brand, 0.06)
    grounds = (ground, surface)
    text = legible(ink, grounds)
    on_accent = max(("#ffffff", "#101418"), key=lambda colour: contrast(colour, brand))
    return Palette(
        ground=ground,
        surface=surface,
        ink=text,
        muted=legible(mixed(text, ground, 0.35), grounds),
        line=legible(mixed(text, ground, 0.6), grounds, 3.0),
        accent=brand,
        on_accent=legible(on_accent, (brand,)),
        link=legible(brand, grounds),
    )


def measured(scheme: str, palette: Palette) -> Iterator[dict[str, JSON]]:
    """Every pair that text is seen in, with its ratio."""
    colours = asdict(palette)
    for text, ground in PAIRS:
        ratio = contrast(colours[text], colours[ground])
        yield {
            "scheme": scheme,
            "text": text,
            "ground": ground,
            "ratio": round(ratio, 2),
            "passes": ratio >= NEEDED,
        }


def moved(tokens: Tokens) -> Iterator[str]:
    """The colours that were said and could not be used as they are, in words."""
    for scheme, said, used in (
        ("light", tokens.ink, light(tokens).ink),
        ("dark", tokens.dark_ink, dark(tokens).ink),
        ("light", tokens.brand, light(tokens).link),
    ):
        if said and said.lower() != used.lower():
            what = "Links in the brand's colour" if said == tokens.brand else "Text"
            yield f"{what} would be too faint in {scheme} as {said}: {used} is used there."
