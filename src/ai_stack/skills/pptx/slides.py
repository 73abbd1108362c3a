"""Slides as data, and an outline in Markdown as slides."""

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import SkillFailed

MAX_SLIDES, MAX_POINTS, MAX_ROWS, MAX_COLUMNS = 500, 200, 1000, 12
Title: TypeAlias = Annotated[str, Field(max_length=300)]
Text: TypeAlias = Annotated[str, Field(max_length=5000)]
Points: TypeAlias = Annotated[list[Text], Field(max_length=MAX_POINTS)]
POINT = re.compile(r"(\s*)(?:[-*+]|\d+[.)])\s+(.*)")


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Title = ""
    notes: Annotated[str, Field(max_length=20_000)] = ""


class Opening(Part):
    """The first slide, or the first one of a part."""

    kind: Literal["title", "section"]
    subtitle: Title = ""


class Bullets(Part):
    """Points; two leading spaces put one a level lower."""

    kind: Literal["bullets"] = "bullets"
    bullets: Points


class Columns(Part):
    """Points beside points."""

    kind: Literal["columns"]
    left: Points
    right: Points


class Table(Part):
    """Rows of cells, the first one the head."""

    kind: Literal["table"]
    rows: Annotated[
        list[Annotated[list[Text], Field(min_length=1, max_length=MAX_COLUMNS)]],
        Field(min_length=1, max_length=MAX_ROWS),
    ]


class Picture(Part):
    """An image as large as fits."""

    kind: Literal["image"]
    image: str
    caption: Title = ""


class Quote(Part):
    """What somebody said."""

    kind: Literal["quote"]
    text: Annotated[str, Field(min_length=1, max_length=1000)]
    by: Title = ""


Slide: TypeAlias = Annotated[
    Opening | Bullets | Columns | Table | Picture | Quote, Field(discriminator="kind")
]
Slides: TypeAlias = Annotated[list[Slide], Field(max_length=MAX_SLIDES)]


def outlined(text: str) -> list[Slide]:
    """The slides of an outline; SkillFailed for one without a head."""
    found: list[Slide] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# "):
            kind: Literal["title", "section"] = "section" if found else "title"
            found.append(Opening(kind=kind, title=stripped[2:].strip()))
        elif stripped.startswith("## "):
            found.append(Bullets(title=stripped[3:].strip(), bullets=[]))
        elif stripped and found:
            _add(found[-1], line)
        elif stripped:
            raise SkillFailed("An outline begins with `# Title` or `## Slide`.")
    return found


def _add(slide: Slide, line: str) -> None:
    if isinstance(slide, Opening):
        slide.subtitle = f"{slide.subtitle} {line.strip()}".strip()
    elif isinstance(slide, Bullets):
        point = POINT.fullmatch(line)
        indent = len(point[1].expandtabs(4)) // 2 * "  " if point else ""
        slide.bullets.append(indent + (point[2] if point else line.strip()))
