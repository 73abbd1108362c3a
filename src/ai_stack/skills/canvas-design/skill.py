"""Posters, cards and diagrams from a written brief, as PNG, PDF and SVG."""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .art import Art
from .brief import Block, blocks, graph
from .colours import PALETTES, Palette, PaletteName
from .diagram import Direction, draw
from .fonts import family_for
from .legibility import mended, pairs
from .pages import SIZES, compose, plan
from .pdf import pdf
from .png import largest_dpi, png
from .scene import Scene
from .svg import svg

Format = Literal["png", "pdf", "svg"]
Formats = Annotated[
    tuple[Format, ...], Field(min_length=1, max_length=3, description="The files that are written.")
]
Colours = Annotated[
    PaletteName | Palette, Field(description="A palette by name, or six colours of your own.")
]
Name = Annotated[str, Field(max_length=60, description="The files' name, without an ending.")]
Font = Annotated[
    File | None, Field(description="A TrueType font for all text; else Vera, or DejaVu Sans.")
]
Dpi = Annotated[int, Field(ge=72, le=300, description="Resolution of the PNG.")]
Brief = Annotated[
    str, Field(max_length=6000, description="Markdown: # title, ## subtitle, - item, When: detail.")
]
Pattern = Annotated[Art, Field(description="What fills the room that the text leaves.")]
Seed = Annotated[str, Field(max_length=100, description="Another one gives another art.")]


class CanvasDesign(Skill):
    @action
    async def poster(
        self,
        brief: Brief,
        size: Annotated[
            Literal["a3", "a4", "letter", "square", "wide"], Field(description="Of the page.")
        ] = "a4",
        landscape: Annotated[bool, Field(description="Turn the page.")] = False,
        palette: Colours = "harbour",
        art: Pattern = "tiles",
        seed: Seed = "",
        formats: Formats = ("pdf", "png"),
        name: Name = "poster",
        dpi: Dpi = 150,
        font: Font = None,
    ) -> SkillResult:
        """Lay out a poster from a brief in Markdown."""
        width, height = SIZES[size]
        page = plan((height, width) if landscape else (width, height), card=False)
        found = blocks(brief)
        family = family_for(brief, font)
        scene = compose(found, page, _palette(palette), family, art, seed or brief)
        return await self._given(scene, _title(found), name, formats, dpi, {})

    @action
    async def card(
        self,
        brief: Brief,
        size: Annotated[
            Literal["business", "a6", "square", "wide"], Field(description="Of the card.")
        ] = "business",
        palette: Colours = "slate",
        art: Pattern = "plain",
        seed: Seed = "",
        formats: Formats = ("pdf", "png"),
        name: Name = "card",
        dpi: Dpi = 200,
        font: Font = None,
    ) -> SkillResult:
        """Lay out a card from a brief in Markdown."""
        found = blocks(brief)
        family = family_for(brief, font)
        page = plan(SIZES[size], card=True)
        scene = compose(found, page, _palette(palette), family, art, seed or brief)
        return await self._given(scene, _title(found), name, formats, dpi, {})

    @action
    async def diagram(
        self,
        brief: Annotated[
            str,
            Field(max_length=20_000, description="A statement in each line: a -> b: label."),
        ],
        title: Annotated[str, Field(max_length=120, description="Stands above it.")] = "",
        direction: Annotated[Direction, Field(description="Where arrows lead.")] = "down",
        palette: Colours = "harbour",
        formats: Formats = ("svg", "png"),
        name: Name = "diagram",
        dpi: Dpi = 144,
        font: Font = None,
    ) -> SkillResult:
        """Draw nodes and arrows from statements such as `web -> api: HTTPS`."""
        nodes, edges = graph(brief)
        family = family_for(brief + title, font)
        found = await asyncio.to_thread(
            draw, nodes, edges, _palette(palette), family, direction, title.strip()
        )
        told: dict[str, JSON] = {
            "nodes": {name: _numbers(box) for name, box in found.boxes.items()},
            "arrows": len(edges),
            "ranks": found.ranks,
            "crossings": found.crossings,
        }
        called = title.strip() or "Diagram"
        return await self._given(found.scene, called, name, formats, dpi, told)

    async def _given(
        self,
        scene: Scene,
        title: str,
        name: str,
        formats: Sequence[Format],
        dpi: int,
        told: dict[str, JSON],
    ) -> SkillResult:
        """The drawing, measured once more, as files and as facts."""
        notes = mended(scene)
        if scene.overflows():
            raise SkillFailed("The layout left its boxes; shorten the brief.")
        allowed = largest_dpi(scene, dpi)
        if allowed < dpi and "png" in formats:
            notes.append(
                f"The PNG has {allowed} dots per inch, for at {dpi} it would be too large."
            )
        files = []
        for n, form in enumerate(dict.fromkeys(formats)):
            await self.context.progress(n, len(formats), form)
            content = await asyncio.to_thread(_written, scene, title, form, allowed)
            path = self.context.artifact(f"{_slug(name)}.{form}")
            path.write_bytes(content)
            files.append(path.name)
        output: dict[str, JSON] = {
            "files": [*files],
            "page_pt": [round(scene.width, 2), round(scene.height, 2)],
            "overflows": 0,
            "contrast": pairs(scene),
            "texts": _texts(scene),
            **told,
        }
        lines = f"{len([*scene.lines()])} lines of text, none outside its box"
        return SkillResult(output, f"{title}: {', '.join(files)}; {lines}.", tuple(notes))


def _written(scene: Scene, title: str, form: Format, dpi: int) -> bytes:
    if form == "png":
        return png(scene, dpi)
    return pdf(scene, title) if form == "pdf" else svg(scene, title)


def _palette(given: PaletteName | Palette) -> Palette:
    return given if isinstance(given, Palette) else PALETTES[given]


def _title(found: Sequence[Block]) -> str:
    return next(block.text for block in found if block.kind == "title")


def _texts(scene: Scene) -> list[JSON]:
    return [
        {
            "text": line.text,
            "size_pt": round(line.size, 2),
            "box": _numbers(line.box),
            "extent": _numbers(line.extent),
        }
        for line in scene.lines()
    ]


def _numbers(box: tuple[float, ...]) -> list[JSON]:
    return [round(value, 2) for value in box]


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "canvas"
