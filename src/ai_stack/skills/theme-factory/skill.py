"""Themes: ten that are ready, applied to files, and new ones from a colour."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action
from ai_stack.skill.office import WORD_OR_SLIDES

from .collection import themes
from .office import document, presentation
from .pages import style_sheet, themed
from .palette import Color, Colors, Theme, derived

Mode: TypeAlias = Literal["light", "dark"]
Files: TypeAlias = Annotated[
    list[File], Field(min_length=1, max_length=50, description=".html, .pptx or .docx files.")
]
Font: TypeAlias = Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z][\w .-]*$")]


class ThemeFactory(Skill):
    @action
    async def list(
        self,
        mode: Annotated[Mode | None, Field(description="Only light or only dark ones.")] = None,
    ) -> SkillResult:
        """Show the ten themes with their colours, fonts and contrasts."""
        found = [theme for theme in themes().values() if mode in (None, theme.mode)]
        lines = [f"{theme.name} ({theme.mode}): {theme.about}" for theme in found]
        return SkillResult({"themes": [_told(theme) for theme in found]}, "\n".join(lines))

    @action
    async def apply(
        self,
        files: Files,
        theme: Annotated[str, Field(max_length=40, description="Name of one of the ten.")] = "",
        custom: Annotated[Theme | None, Field(description="A theme of your own.")] = None,
    ) -> SkillResult:
        """Give files a theme."""
        chosen = _chosen(theme, custom)
        made = [(f, *await asyncio.to_thread(_applied, f, chosen)) for f in files]
        told = []
        for file, data, found in made:
            path = self.context.artifact(file.name)
            path.write_bytes(data)
            told.append({"file": path.name, **found})
        bad = [f["file"] for f in told if f.get("unreadable")]
        notes = (f"Texts with colours of their own cannot be read in {', '.join(map(str, bad))}.",)
        output: dict[str, JSON] = {"theme": chosen.name, "files": told}
        summary = f"{chosen.name} on {len(told)} file(s)."
        return SkillResult(output, summary, notes if bad else ())

    @action
    async def create(
        self,
        name: Annotated[
            str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40, description="Its name.")
        ],
        seed: Annotated[Color, Field(description="The colour that the others follow.")],
        mode: Annotated[Mode, Field(description="Light or dark background.")] = "light",
        colors: Annotated[
            dict[str, Color], Field(max_length=8, description="Single colours that are wanted.")
        ] = {},  # noqa: B006
        heading_font: Annotated[Font, Field(description="Font of headings.")] = "Georgia",
        body_font: Annotated[Font, Field(description="Font of text.")] = "Arial",
    ) -> SkillResult:
        """Make a theme from a colour, with every pair of colours readable."""
        unknown = sorted(set(colors) - set(Colors.model_fields))
        if unknown:
            known = ", ".join(Colors.model_fields)
            raise SkillFailed(f"A theme has {known}, and no {', '.join(unknown)[:100]}.")
        found, moved = derived(seed, mode, colors)
        fonts = {"heading_font": heading_font, "body_font": body_font}
        try:
            theme = Theme(name=name, about=f"From {seed}", colors=found, **fonts)
        except ValidationError:
            raise SkillFailed("These colours cannot be made readable together.") from None
        self.context.artifact(f"{name}.json").write_text(theme.model_dump_json(indent=2) + "\n")
        self.context.artifact(f"{name}.css").write_text(style_sheet(theme))
        now = theme.colors.model_dump()
        adjusted = {n: {"from": old, "to": now[n]} for n, old in moved.items()}
        output: dict[str, JSON] = {
            "theme": theme.model_dump(),
            **_told(theme),
            "adjusted": adjusted,
        }
        return SkillResult(output, f"{name}: {json.dumps(now)}")


def _told(theme: Theme) -> dict[str, JSON]:
    ratios = {f"{front} on {back}": round(ratio, 2) for front, back, ratio, _ in theme.ratios()}
    return {**theme.model_dump(), "mode": theme.mode, "contrasts": ratios}


def _chosen(name: str, custom: Theme | None) -> Theme:
    known = themes()
    if bool(name) == (custom is not None):
        raise SkillFailed("Give either `theme` or `custom`.")
    if custom is not None:
        return custom
    if name not in known:
        raise SkillFailed(f"There is no theme {name!r}; there are {', '.join(known)}.")
    return known[name]


def _applied(file: Path, theme: Theme) -> tuple[bytes, Mapping[str, JSON]]:
    match file.suffix.lower():
        case ".docx":
            return document(WORD_OR_SLIDES.checked(file), theme)
        case ".pptx":
            return presentation(WORD_OR_SLIDES.checked(file), theme)
        case ".html" | ".htm":
            return themed(_page(file), theme).encode(), {}
    raise SkillFailed(f"{file.name[:80]} is none of .html, .pptx and .docx.")


def _page(file: Path) -> str:
    if not file.is_file() or not 0 < file.stat().st_size <= WORD_OR_SLIDES.max_bytes:
        raise SkillFailed(
            f"{file.name} must be a file of 1 byte to {WORD_OR_SLIDES.max_bytes >> 20} MiB."
        )
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise SkillFailed(f"{file.name} is not UTF-8: save it as that.") from None
