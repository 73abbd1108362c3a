"""Dependency audit: what a project is made of, and what is wrong with that."""

import asyncio
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ai_stack.skill import JSON, File, Folder, Skill, SkillFailed, SkillResult, action

from .advisories import OSV, Advice, ask
from .bill import bill
from .faults import KINDS, Fault, of_project
from .licences import NONE_STATED, Licences, in_folder, terms
from .project import Project, of_files, of_folder
from .report import markdown

MAX_SHOWN = 300
NOT_REACHED = (
    "No advisory source was reached ({}): nothing is known here about vulnerabilities, which is"
    " not the same as none."
)
NOT_ASKED = "No advisory source was asked, as you wished: nothing is known about vulnerabilities."
UNKNOWN = "The licences of {} packages are unknown: the folder has no metadata of theirs."

Where = Annotated[Folder | None, Field(description="The project; its lock files are found.")]
Which = Annotated[
    tuple[File, ...], Field(max_length=50, description="Lock files, instead of a folder.")
]


class DependencyAudit(Skill):
    osv_url: ClassVar[str] = OSV

    @action
    async def audit(
        self,
        folder: Where = None,
        files: Which = (),
        advisories: Annotated[
            Literal["osv", "none"], Field(description="Whom to ask about vulnerabilities.")
        ] = "osv",
        ignore: Annotated[
            tuple[Annotated[str, Field(max_length=200)], ...],
            Field(max_length=200, description="Packages whose faults are known and accepted."),
        ] = (),
    ) -> SkillResult:
        """Find what is vulnerable, unpinned, unlocked, duplicated, unlicensed or insecure."""
        project, licences = await asyncio.to_thread(_read, folder, files)
        await self.context.progress(1, 2, f"{project.size} packages read")
        advice = await ask(project, self.osv_url) if advisories == "osv" else Advice()
        found = [f for f in [*advice.faults, *of_project(project, licences)]
                 if f.package not in ignore]  # fmt: skip
        found.sort(key=lambda f: (KINDS.index(f.kind), f.path, f.line))
        notes = [*_advised(advice, advisories), *_unknown(project, licences), *project.notes]
        self.context.artifact("audit.md").write_text(markdown(project, found, notes))
        output = _audited(project, found, advice, advisories)
        return SkillResult(output, _summary(project, found, notes[:1]), tuple(notes))

    @action
    async def licences(
        self,
        folder: Where = None,
        files: Which = (),
        deny: Annotated[
            tuple[Annotated[str, Field(max_length=100)], ...],
            Field(max_length=100, description="SPDX identifiers that must not occur."),
        ] = (),
    ) -> SkillResult:
        """Tell the licence of each package, and which are denied."""
        project, licences = await asyncio.to_thread(_read, folder, files)
        rows = [
            (lock.path, p.ecosystem, p.name, p.version, licences.of(p))
            for lock in project.locks
            for p in lock.packages
        ]
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(("file", "ecosystem", "package", "version", "licence"))
        table.writerows([*map(_cell, row[:4]), _told(row[4])] for row in rows)
        self.context.artifact("licences.csv").write_text(text.getvalue())
        denied: list[JSON] = [
            {"path": path, "package": name, "version": version, "licence": licence}
            for path, _, name, version, licence in rows
            if licence and terms(licence) & set(deny)
        ]
        counted = Counter(_told(row[4]) for row in rows)
        output: dict[str, JSON] = {
            "packages": len(rows),
            "licences": dict(counted.most_common(MAX_SHOWN)),
            "denied": denied[:MAX_SHOWN],
            "unlicensed": [row[2] for row in rows if row[4] == NONE_STATED][:MAX_SHOWN],
        }
        told = f"{len(rows)} packages, {len(counted)} kinds of licence, {len(denied)} denied."
        return SkillResult(output, told, tuple(_unknown(project, licences)))

    @action
    async def sbom(
        self,
        folder: Where = None,
        files: Which = (),
        name: Annotated[str, Field(max_length=200, description="The project's name.")] = "",
    ) -> SkillResult:
        """Write a bill of materials in CycloneDX 1.6."""
        project, licences = await asyncio.to_thread(_read, folder, files)
        title = name or (folder.resolve().name if folder else "") or "project"
        text, count = await asyncio.to_thread(bill, title, project.locks, licences)
        self.context.artifact("sbom.cdx.json").write_text(text)
        output: dict[str, JSON] = {
            "components": count,
            "packages": project.size,
            "files": [lock.path for lock in project.locks],
        }
        told = f"{count} components from {len(project.locks)} lock files."
        return SkillResult(output, told, tuple(_unknown(project, licences)))


def _read(folder: Path | None, files: Sequence[Path]) -> tuple[Project, Licences]:
    if (folder is None) == (not files):
        raise SkillFailed("Give either a folder or lock files.")
    if folder is None:
        return of_files(files), Licences()
    project = of_folder(folder)
    return project, in_folder(folder, project.locks)


def _audited(
    project: Project, found: Sequence[Fault], advice: Advice, source: str
) -> dict[str, JSON]:
    counted = Counter(fault.kind for fault in found)
    rows: list[JSON] = [fault.to_json() for fault in found[:MAX_SHOWN]]
    return {
        "files": [{"path": k.path, "kind": k.kind, "packages": len(k.packages)}
                  for k in project.locks],
        "packages": project.size,
        "counts": {kind: counted[kind] for kind in KINDS if counted[kind]},
        "faults": rows,
        "advisories": {"source": source, "reached": advice.reached, "asked": advice.asked},
    }  # fmt: skip


def _advised(advice: Advice, source: str) -> list[str]:
    if source == "none":
        return [NOT_ASKED]
    return [] if advice.reached else [NOT_REACHED.format(advice.why or "OSV")]


def _unknown(project: Project, licences: Licences) -> list[str]:
    count = sum(licences.of(p) is None for lock in project.locks for p in lock.packages)
    return [UNKNOWN.format(count)] if count else []


def _summary(project: Project, found: Sequence[Fault], notes: Sequence[str]) -> str:
    counted = Counter(fault.kind for fault in found)
    told = ", ".join(f"{counted[k]} {k}" for k in KINDS if counted[k]) or "nothing found"
    head = f"{project.size} packages in {len(project.locks)} lock files: {told}."
    return "\n".join([head, *(n for n in notes if "advisory" in n)])


def _told(licence: str | None) -> str:
    return "unknown" if licence is None else _cell(licence) or "none stated"


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
