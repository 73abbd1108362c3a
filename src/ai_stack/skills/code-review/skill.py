"""Code review: reads a diff, files or a repository, and says what is wrong at which line."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ai_stack.skill import File, Folder, Skill, SkillFailed, SkillResult, action

from .complexity import Limits, measure
from .findings import Finding, Severity, counts, relevant
from .leaks import conflicts, secrets
from .lint import lint
from .patch import MAX_BYTES, of_diff
from .reports import markdown, sarif
from .security import examine
from .sources import Reading, Source, of_files, of_folder, write

MAX_SHOWN = 200
IN_PART = (
    "{} files are known only in part and were checked for secrets and conflicts alone; give the"
    " folder for the rest."
)

Least = Annotated[Severity, Field(description="Findings below this severity are left out.")]
Complexity = Annotated[int, Field(ge=1, le=1000, description="Cyclomatic complexity allowed.")]
Length = Annotated[int, Field(ge=1, le=10_000, description="Lines allowed in one function.")]
Suppressions = Annotated[
    bool, Field(description="Whether `# noqa`, `# nosec` and allowlist pragmas are respected.")
]


class CodeReview(Skill):
    @action
    async def diff(
        self,
        *,
        diff: Annotated[str, Field(max_length=MAX_BYTES, description="A unified diff.")] = "",
        diff_file: Annotated[File | None, Field(description="The diff as a file.")] = None,
        folder: Annotated[
            Folder | None, Field(description="The folder that the diff led to.")
        ] = None,
        least: Least = "low",
        max_complexity: Complexity = 10,
        max_function_lines: Length = 60,
        suppressions: Suppressions = True,
    ) -> SkillResult:
        """Review the lines that a diff adds."""
        text = diff or await asyncio.to_thread(_text, diff_file)
        reading = await asyncio.to_thread(of_diff, text, folder)
        limits = Limits(max_complexity, max_function_lines)
        return await self._review(reading, limits, least, suppressions)

    @action
    async def files(
        self,
        *,
        files: Annotated[
            list[File], Field(min_length=1, max_length=200, description="The files to review.")
        ],
        least: Least = "low",
        max_complexity: Complexity = 10,
        max_function_lines: Length = 60,
        suppressions: Suppressions = True,
    ) -> SkillResult:
        """Review single files."""
        reading = await asyncio.to_thread(of_files, files)
        limits = Limits(max_complexity, max_function_lines)
        return await self._review(reading, limits, least, suppressions)

    @action
    async def repository(
        self,
        *,
        folder: Annotated[Folder, Field(description="The repository's folder.")],
        only: Annotated[
            tuple[Annotated[str, Field(max_length=300)], ...],
            Field(
                max_length=50,
                description="Patterns as in .gitignore; files that fit none of "
                "them are not reviewed.",
            ),
        ] = (),
        least: Least = "low",
        max_complexity: Complexity = 10,
        max_function_lines: Length = 60,
        suppressions: Suppressions = True,
    ) -> SkillResult:
        """Review the files below a folder, without those that .gitignore leaves out."""
        reading = await asyncio.to_thread(of_folder, folder, only)
        limits = Limits(max_complexity, max_function_lines)
        return await self._review(reading, limits, least, suppressions)

    async def _review(
        self, reading: Reading, limits: Limits, least: Severity, suppressions: bool
    ) -> SkillResult:
        found = relevant(
            await self._found(reading.sources, limits, suppressions), reading.sources, least
        )
        notes = _notes(reading, len(found))
        report = markdown(found, len(reading.sources), notes)
        self.context.artifact("review.sarif").write_text(json.dumps(sarif(found), indent=1))
        self.context.artifact("review.md").write_text(report)
        told = ", ".join(f"{n} {kind}" for kind, n in counts(found).items())
        files = f"{len(reading.sources)} files reviewed"
        return SkillResult(
            {
                "files": len(reading.sources),
                "total": len(found),
                "counts": dict(counts(found)),
                "findings": [dict(finding.to_json()) for finding in found[:MAX_SHOWN]],
            },
            summary=f"{files}: {told}." if told else f"{files}; nothing found.",
            notes=tuple(notes),
        )

    async def _found(
        self, sources: Sequence[Source], limits: Limits, suppressions: bool
    ) -> list[Finding]:
        folder = self.context.scratch / "code"
        folder.mkdir(exist_ok=True)
        await asyncio.to_thread(_laid_out, sources, folder)
        await self.context.progress(1, 5, "Looking for bugs")
        found = await lint(sources, folder.resolve(), suppressions)
        await self.context.progress(2, 5, "Looking for security holes")
        found += await asyncio.to_thread(examine, sources, folder, suppressions)
        await self.context.progress(3, 5, "Looking for secrets")
        found += await asyncio.to_thread(secrets, sources, folder, suppressions)
        await self.context.progress(4, 5, "Measuring functions")
        return found + conflicts(sources) + await asyncio.to_thread(measure, sources, limits)


def _laid_out(sources: Sequence[Source], folder: Path) -> None:
    try:
        write(sources, folder)
    except OSError:
        raise SkillFailed(
            "Two paths under review exclude each other, or one is too long."
        ) from None


def _text(file: Path | None) -> str:
    if file is None:
        raise SkillFailed("Give a diff, as text or as a file.")
    if file.stat().st_size > MAX_BYTES:
        raise SkillFailed(f"The diff is larger than {MAX_BYTES >> 20} MiB; give a part of it.")
    return file.read_bytes().decode("utf-8", "replace")


def _notes(reading: Reading, total: int) -> list[str]:
    notes = [f"{n} files left out: {why}." for why, n in reading.left_out.items()]
    parts = sum(not source.whole for source in reading.sources)
    notes += [IN_PART.format(parts)] if parts else []
    if total > MAX_SHOWN:
        notes.append(f"{MAX_SHOWN} of {total} findings are listed here; review.sarif has all.")
    return notes
