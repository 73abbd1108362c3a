"""A brand's colours and fonts: applied to files, or checked in them."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action
from ai_stack.skill.office import WORD_OR_SLIDES

from .brand import Brand, Report, normal
from .office import branded
from .styles import Styles

Files: TypeAlias = Annotated[
    list[File], Field(min_length=1, max_length=50, description=".docx, .pptx, .html or .css files.")
]
House: TypeAlias = Annotated[Brand, Field(description="The brand's colours and fonts.")]


class BrandGuidelines(Skill):
    @action
    async def apply(
        self,
        files: Files,
        brand: House,
        map: Annotated[
            dict[str, str],
            Field(max_length=200, description="What single colours become: colour to name."),
        ] = {},  # noqa: B006
    ) -> SkillResult:
        """Bring files into a brand's colours and fonts."""
        mapping = _mapping(map, brand)
        made: list[tuple[Path, bytes, dict[str, JSON]]] = []
        for n, file in enumerate(files):
            await self.context.progress(n, len(files), file.name)
            data, found = await asyncio.to_thread(_applied, file, brand, mapping)
            made.append((file, data, found))
        told: list[JSON] = []
        for file, data, found in made:
            path = self.context.artifact(file.name)
            path.write_bytes(data)
            told.append({"file": path.name, **found})
        lines = [f"{f.name}: {len(t['changed'])} changed" for f, _, t in made]  # type: ignore[arg-type]
        return SkillResult({"files": told}, "\n".join(lines[:5]))

    @action
    async def check(self, files: Files, brand: House) -> SkillResult:
        """List colours and fonts outside a brand, and text with too little contrast."""
        told: list[JSON] = []
        count = 0
        for file in files:
            report = Report(brand)
            await asyncio.to_thread(_done, file, file.suffix, report)
            count += report.count
            told.append({"file": file.name, "violations": report.violations, "count": report.count})
        return SkillResult({"files": told, "count": count}, f"{count} violation(s).")


def _applied(file: Path, brand: Brand, mapping: Mapping[str, str]) -> tuple[bytes, dict[str, JSON]]:
    """The new file, what became of what, and what is still wrong in it."""
    report = Report(brand, mapping)
    data = _done(file, file.suffix, report)
    again = Report(brand)
    _of(file.suffix)(data, again)
    return data, {"changed": report.changed, "left": again.violations}


def _done(file: Path, ending: str, report: Report) -> bytes:
    work = _of(ending)
    if ending.lower() in (".docx", ".pptx"):
        return work(WORD_OR_SLIDES.checked(file), report)
    if not file.is_file() or not 0 < file.stat().st_size <= WORD_OR_SLIDES.max_bytes:
        raise SkillFailed(
            f"{file.name} must be a file of 1 byte to {WORD_OR_SLIDES.max_bytes >> 20} MiB."
        )
    return work(file.read_bytes(), report)


def _of(ending: str) -> Callable[[bytes, Report], bytes]:
    kinds: Mapping[str, Callable[[bytes, Report], bytes]] = {
        ".docx": branded,
        ".pptx": branded,
        ".html": lambda data, report: Styles(report).html(_text(data)).encode(),
        ".htm": lambda data, report: Styles(report).html(_text(data)).encode(),
        ".css": lambda data, report: Styles(report).css(_text(data)).encode(),
    }
    if ending.lower() not in kinds:
        raise SkillFailed(f"A file ending in {ending[:20]!r} is none of .docx, .pptx, .html, .css.")
    return kinds[ending.lower()]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SkillFailed("The file is not UTF-8: save it as that.") from None


def _mapping(given: Mapping[str, str], brand: Brand) -> dict[str, str]:
    try:
        found = normal(given)
    except ValueError:
        raise SkillFailed(
            "`map` goes from colours such as #FF0000 to names of the brand."
        ) from None
    unknown = sorted(set(found.values()) - set(brand.colors))
    if unknown:
        raise SkillFailed(f"The brand has no colour named {', '.join(unknown)[:100]}.")
    return found
