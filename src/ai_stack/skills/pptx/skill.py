"""PowerPoint presentations: created, read, edited, given another theme."""

import asyncio
import io
from pathlib import Path
from typing import Annotated, TypeAlias

from pptx import Presentation
from pptx.presentation import Presentation as Deck
from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .deck import Setter, empty
from .edits import Change, apply_changes
from .fitting import fit, problems
from .metrics import is_known
from .package import opened
from .reading import Reader
from .slides import MAX_SLIDES, Slides, outlined
from .themes import Color, colors_of, drop_own_fonts, fonts_of, set_colors, set_fonts

Name: TypeAlias = Annotated[str, Field(max_length=120, description="Name of the file it makes.")]
Source: TypeAlias = Annotated[File, Field(description="A PowerPoint presentation (.pptx).")]
Font: TypeAlias = Annotated[str, Field(max_length=60, pattern=r"^[\w .+-]*$")]
Images: TypeAlias = Annotated[
    list[File], Field(max_length=200, description="Image files that slides name.")
]


class Presentations(Skill):
    @action
    async def create(
        self,
        slides: Annotated[Slides, Field(description="The slides, in order.")] = [],  # noqa: B006
        outline: Annotated[
            str, Field(max_length=500_000, description="The same as Markdown.")
        ] = "",
        images: Images = [],  # noqa: B006
        name: Name = "slides.pptx",
        heading_font: Annotated[Font, Field(description="Font of titles.")] = "Arial",
        body_font: Annotated[Font, Field(description="Font of text.")] = "Arial",
    ) -> SkillResult:
        """Make a presentation from slides or an outline."""
        if bool(slides) == bool(outline.strip()):
            raise SkillFailed("Give either `slides` or `outline`: one of them, and not empty.")

        def made() -> Deck:
            deck = empty()
            set_fonts(deck, heading_font, body_font)
            setter = Setter(deck, {i.name: i for i in images}, (heading_font, body_font))
            for slide in slides or outlined(outline)[:MAX_SLIDES]:
                setter.set(slide)
            return deck

        return await self._saved(await asyncio.to_thread(made), name, "Made")

    @action
    async def read(
        self,
        file: Source,
        images: Annotated[bool, Field(description="Whether images become artifacts.")] = True,
    ) -> SkillResult:
        """Give what slides say, their images as files, and what leaves its box."""
        deck = await asyncio.to_thread(_opened, file)
        place = self.context.artifact if images else None
        slides = await asyncio.to_thread(Reader(deck, place).slides)
        found = await asyncio.to_thread(problems, deck)
        heading, body = fonts_of(deck)
        output: dict[str, JSON] = {
            "slides": slides,
            "problems": [p.told() for p in found],
            "theme": {"heading_font": heading, "body_font": body, "colors": colors_of(deck)},
        }
        return SkillResult(output, f"{len(slides)} slides, {len(found)} problems.", _unknown(deck))

    @action
    async def edit(
        self,
        file: Source,
        changes: Annotated[
            list[Change],
            Field(min_length=1, max_length=500, description="Done in order, all or none."),
        ],
        images: Images = [],  # noqa: B006
        name: Name = "",
    ) -> SkillResult:
        """Change texts, slides and notes and leave all else as it is."""
        deck = await asyncio.to_thread(_opened, file)
        await asyncio.to_thread(apply_changes, deck, changes, {i.name: i for i in images})
        shrunk = await asyncio.to_thread(fit, deck)
        result = await self._saved(deck, name or file.name, "Changed")
        return SkillResult({**result.output, "set_smaller": shrunk}, result.summary, result.notes)

    @action
    async def theme(
        self,
        file: Source,
        background: Annotated[Color | None, Field(description="As #FFFFFF.")] = None,
        text: Annotated[Color | None, Field(description="Colour of text.")] = None,
        accents: Annotated[
            list[Color], Field(max_length=6, description="Colours of charts and tables.")
        ] = [],  # noqa: B006
        heading_font: Annotated[Font, Field(description="Font of titles.")] = "",
        body_font: Annotated[Font, Field(description="Font of text.")] = "",
        name: Name = "",
    ) -> SkillResult:
        """Give a presentation other colours and fonts."""
        deck = await asyncio.to_thread(_opened, file)

        def done() -> int:
            now = colors_of(deck)
            back, front = background or now.get("lt1", "#FFFFFF"), text or now.get("dk1", "#000000")
            if background or text or accents:
                set_colors(deck, back, front, accents)
            if heading_font or body_font:
                drop_own_fonts(deck, fonts_of(deck))
                set_fonts(deck, heading_font, body_font)
            return fit(deck)

        shrunk = await asyncio.to_thread(done)
        result = await self._saved(deck, name or file.name, "Themed")
        output = {**result.output, "set_smaller": shrunk, "colors": colors_of(deck)}
        return SkillResult(output, result.summary, result.notes)

    async def _saved(self, deck: Deck, name: str, verb: str) -> SkillResult:
        """The presentation as an artifact, opened again and measured."""
        out = io.BytesIO()
        await asyncio.to_thread(deck.save, out)
        again = Presentation(io.BytesIO(out.getvalue()))
        found = await asyncio.to_thread(problems, again)
        stem = name if name.lower().endswith(".pptx") else f"{Path(name).stem or 'slides'}.pptx"
        path = self.context.artifact(stem)
        path.write_bytes(out.getvalue())
        count = len(again.slides)
        output: dict[str, JSON] = {
            "file": path.name,
            "slides": count,
            "problems": [p.told() for p in found],
        }
        told = f"{verb} {path.name}: {count} slides, {len(found)} problems."
        return SkillResult(output, told, _unknown(again))


def _opened(file: Path) -> Deck:
    deck = opened(file)
    if len(deck.slides) > MAX_SLIDES:
        raise SkillFailed(f"The presentation has more than {MAX_SLIDES} slides.")
    return deck


def _unknown(deck: Deck) -> tuple[str, ...]:
    names = sorted({font for font in fonts_of(deck) if not is_known(font)})
    told = "is not on this machine; its text was measured as Arial with 15 % more."
    return tuple(f"{name} {told}" for name in names)
