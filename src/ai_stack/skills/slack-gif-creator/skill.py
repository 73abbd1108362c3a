"""GIFs for Slack: made from shapes and text, fitted from pictures, checked."""

import asyncio
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ai_stack.skill import File, Skill, SkillFailed, SkillResult, action

from .drawing import frames, unwritable
from .elements import Colour, Element
from .encoding import Encoded, encoded
from .limits import LIMITS, Kind, faults
from .reading import content_of, measured, sampled, seamless

Place = Annotated[Kind, Field(description="Whose limits it keeps: a custom emoji's, a message's.")]
Name = Annotated[str, Field(max_length=60, description="The file's name, without .gif.")]


class SlackGif(Skill):
    @action
    async def create(
        self,
        elements: Annotated[
            list[Element],
            Field(min_length=1, max_length=24, description="What is drawn, from the back."),
        ],
        kind: Place = "emoji",
        name: Name = "animation",
        background: Annotated[
            Colour | None, Field(description="Colour behind all; none is transparent.")
        ] = None,
        seconds: Annotated[float, Field(ge=0.2, le=10, description="Of one loop.")] = 1.5,
        fps: Annotated[int, Field(ge=5, le=25, description="Frames for each second.")] = 20,
    ) -> SkillResult:
        """Make a looping GIF from shapes, text and motion, within Slack's limits."""
        _check_texts(elements)
        limits = LIMITS[kind]
        frame_ms = max(40, round(100 / fps) * 10)
        wanted = max(2, round(seconds * 1000 / frame_ms))
        count = min(limits.frames, wanted)
        frame_ms = round(seconds * 100 / count) * 10
        size = (limits.side, limits.side)
        await self.context.progress(0, 2, "drawing")
        drawn = await asyncio.to_thread(frames, elements, size, count, background)
        await self.context.progress(1, 2, "encoding")
        made = await asyncio.to_thread(encoded, drawn, frame_ms, limits)
        notes = [f"{wanted} frames are too many; {count} are shown, each longer."]
        return self._given(made, kind, name, notes if count < wanted else [])

    @action
    async def fit(
        self,
        file: Annotated[File, Field(description="A GIF, PNG, JPEG or WebP.")],
        kind: Place = "emoji",
        name: Name = "fitted",
        crop: Annotated[
            bool, Field(description="Cut to a square from the middle; else keep all, with margins.")
        ] = False,
    ) -> SkillResult:
        """Make a picture or GIF that exists fit Slack's limits."""
        limits = LIMITS[kind]
        content = content_of(file)
        size = (limits.side, limits.side)
        found, frame_ms = await asyncio.to_thread(sampled, content, size, limits.frames, crop)
        made = await asyncio.to_thread(encoded, found, frame_ms, limits)
        return self._given(made, kind, name, [])

    @action
    async def check(
        self,
        file: Annotated[File, Field(description="A GIF.")],
        kind: Place = "emoji",
    ) -> SkillResult:
        """Measure a GIF against Slack's limits."""
        content = content_of(file)
        facts = await asyncio.to_thread(measured, content)
        found = faults(facts, kind)
        closed = await asyncio.to_thread(seamless, content)
        said = (
            f"breaks {len(found)} limits: {'; '.join(found)}" if found else "is within all limits"
        )
        return SkillResult(
            {**facts.told(), "faults": list(found), "fits": not found, "seamless": closed},
            summary=f"As {_called(kind)}, this GIF {said}.",
        )

    def _given(self, made: Encoded, kind: Kind, name: str, notes: list[str]) -> SkillResult:
        """The GIF as an artifact, once it was measured as a stranger would."""
        facts = measured(made.content)
        if broken := faults(facts, kind):
            raise SkillFailed(f"What came out breaks Slack's limits: {'; '.join(broken)}.")
        path = _file(self.context.artifact(f"{_slug(name)}.gif"), made.content)
        output = {**facts.told(), "file": path.name, "seamless": seamless(made.content)}
        told = f"{facts.width}x{facts.height}, {facts.frames} frames, {facts.size_bytes} bytes"
        return SkillResult(
            output,
            summary=f"{path.name}: {told}; within Slack's limits for {_called(kind)}.",
            notes=(*notes, *made.given_up),
        )


def _check_texts(elements: list[Element]) -> None:
    for element in elements:
        if element.shape == "text" and not element.text.strip():
            raise SkillFailed("An element of shape text needs a text.")
        if element.shape == "text" and (lacking := unwritable(element.text)):
            raise SkillFailed(f"The font has no {' '.join(lacking)}; use other letters or shapes.")


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _slug(name: str) -> str:
    """Slack names emoji in lowercase letters, digits, hyphens and underscores."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "animation"


def _called(kind: Kind) -> str:
    return "an emoji" if kind == "emoji" else "a message"
