"""Skill creator: new skills made, checked, tried and packed."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue

from ai_stack.skill import JSON, Folder, Skill, SkillFailed, SkillResult, action

from .check import Fault, check
from .folder import find, pack
from .plan import Action, Plan, write
from .trials import attempt

SkillFolder = Annotated[Folder, Field(description="The skill's folder, or a zip archive of it.")]
MAX_TEXT = 1 << 20
TO_WRITE = "Each action gives its arguments back; write what it does in skill.py."


class SkillCreator(Skill):
    @action
    async def new(
        self,
        *,
        name: Annotated[str, Field(max_length=64, description="Lowercase, with hyphens.")],
        description: Annotated[
            str, Field(max_length=1024, description="What it does, and when to use it.")
        ],
        instructions: Annotated[
            str, Field(max_length=MAX_TEXT, description="Body of SKILL.md, in Markdown.")
        ] = "",
        actions: Annotated[
            tuple[Action, ...], Field(max_length=30, description="What it can do, by arguments.")
        ] = (),
        code: Annotated[
            str, Field(max_length=MAX_TEXT, description="A whole skill.py instead of `actions`.")
        ] = "",
        examples: Annotated[
            tuple[dict[str, JsonValue], ...],
            Field(max_length=100, description="`about`, `parameters`, `output` of runs."),
        ] = (),
        files: Annotated[
            dict[str, str], Field(max_length=200, description="Further files: text by path.")
        ] = {},  # noqa: B006 (the schema's default; nobody changes it)
        permissions: Annotated[
            dict[str, str], Field(max_length=20, description="`ai-stack-*` metadata by name.")
        ] = {},  # noqa: B006
        license: Annotated[str, Field(max_length=200, description="Of the skill.")] = "MIT",
    ) -> SkillResult:
        """Make a new skill, as a zip archive of its folder."""
        plan = Plan(
            name=name, description=description, instructions=instructions, license=license,
            permissions=permissions, actions=actions, code=code, examples=examples, files=files,
        )  # fmt: skip
        if not name.replace("-", "").isalnum():
            raise SkillFailed("`name` must be lowercase letters and digits, parted by hyphens.")
        folder = self._place() / name
        await asyncio.to_thread(write, plan, folder)
        packed = self._packed(folder)
        notes = (TO_WRITE,) if actions else ()
        return SkillResult(packed.output, f"Made {name}. {packed.summary}", (*packed.notes, *notes))

    @action
    async def validate(self, folder: SkillFolder) -> SkillResult:
        """Read a skill's folder and tell what is wrong with it."""
        found, faults = await asyncio.to_thread(_checked, folder)
        errors, warnings = _parted(faults)
        told = f"{len(errors)} errors, {len(warnings)} warnings."
        lines = [f"{f.file}:{f.line} {f.message}" for f in faults[:4]]
        output = {"valid": not errors, "name": found.name, **_rows(errors, warnings)}
        return SkillResult(output, "\n".join([told, *lines]))

    @action
    async def test(
        self,
        folder: SkillFolder,
        time_s: Annotated[float, Field(ge=1, le=150, description="Seconds for all.")] = 60,
    ) -> SkillResult:
        """Run a skill's examples in a process of its own and compare what comes out."""
        found, faults = await asyncio.to_thread(_checked, folder)
        if errors := _parted(faults)[0]:
            first = errors[0]
            raise SkillFailed(f"{first.file}:{first.line} {first.message} Mend it first.")
        if not (found / "skill.py").is_file():
            raise SkillFailed("This skill is instructions: there is nothing to run.")
        trial = await attempt(found, self._place(), time_s)
        passed = sum(row.get("passed") is True for row in trial.rows)
        failed = len(trial.rows) - passed
        output: dict[str, JSON] = {
            "passed": passed,
            "failed": failed,
            "fault": trial.fault,
            "examples": trial.rows,
        }
        lines = [f"{passed} of {len(trial.rows)} examples pass.", trial.fault]
        return SkillResult(output, "\n".join(filter(None, lines)))

    @action
    async def package(self, folder: SkillFolder) -> SkillResult:
        """Pack a skill that has no errors as a zip archive."""
        return await asyncio.to_thread(lambda: self._packed(find(folder)))

    def _place(self) -> Path:
        """A new folder, gone after the run."""
        return Path(tempfile.mkdtemp(dir=self.context.scratch))

    def _packed(self, folder: Path) -> SkillResult:
        found, faults = _checked(folder)
        errors, warnings = _parted(faults)
        if errors:
            first = errors[0]
            raise SkillFailed(f"{first.file}:{first.line} {first.message}")
        archive = self.context.artifact(f"{found.name}.zip")
        rows: list[JSON] = [dict(row) for row in pack(found, archive)]
        output = {"name": found.name, "files": rows, **_rows(errors, warnings)}
        notes = tuple(f"{f.file}:{f.line} {f.message}" for f in warnings)
        return SkillResult(output, f"{archive.name} has {len(rows)} files.", notes)


def _checked(folder: Path) -> tuple[Path, list[Fault]]:
    found = find(folder)
    return found, check(found)[1]


def _parted(faults: list[Fault]) -> tuple[list[Fault], list[Fault]]:
    errors = [fault for fault in faults if fault.level == "error"]
    return errors, [fault for fault in faults if fault.level == "warning"]


def _rows(errors: list[Fault], warnings: list[Fault]) -> dict[str, JSON]:
    return {
        "errors": [fault.to_json() for fault in errors],
        "warnings": [fault.to_json() for fault in warnings],
    }
