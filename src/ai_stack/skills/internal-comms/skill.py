"""Reports for colleagues, every statement with its source."""

import asyncio
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ai_stack.skill import JSON, File, Folder, Skill, SkillFailed, SkillResult, action

from .faq import faq
from .gitlog import Commit, commits
from .incident import incident
from .lead import borne_out, prompt
from .notes import Note, notes, text_of
from .report import Report, markdown
from .status import newsletter, status_report

Repository = Annotated[Folder | None, Field(description="A folder with .git, or a zip of it.")]
Documents = Annotated[
    list[File], Field(max_length=50, description="Notes and documents: text or Markdown.")
]
Moment = Annotated[
    str, Field(max_length=60, description="A time as git takes it: 2026-04-01, 2 weeks ago.")
]
Range = Annotated[str, Field(max_length=120, description="Revisions, as in v1.2..HEAD.")]
Title = Annotated[str, Field(max_length=120, description="Of the report.")]
Template = Annotated[
    File | None, Field(description="Markdown with {{title}}, {{done}}, {{sources}} and the like.")
]
Most = Annotated[int, Field(ge=1, le=500, description="Lines that a section lists.")]
Lead = Annotated[bool, Field(description="Sentences on top by a language model, if there is one.")]


class InternalComms(Skill):
    @action
    async def status_report(
        self,
        repository: Repository = None,
        documents: Documents = [],  # noqa: B006
        since: Moment = "",
        until: Moment = "",
        range: Range = "",
        title: Title = "Status report",
        most: Most = 15,
        template: Template = None,
        lead: Lead = False,
    ) -> SkillResult:
        """Say what was done, decided, is at risk and comes next."""
        changes, noted = await _read(repository, documents, since, until, range)
        report = status_report(title, _period(since, until, range), changes, noted, most)
        return await self._told(report, "status-report", template, lead)

    @action
    async def newsletter(
        self,
        repository: Repository = None,
        documents: Documents = [],  # noqa: B006
        since: Moment = "",
        until: Moment = "",
        range: Range = "",
        title: Title = "News",
        most: Most = 10,
        template: Template = None,
        lead: Lead = False,
    ) -> SkillResult:
        """Tell all what is new, what was mended and who did it."""
        changes, noted = await _read(repository, documents, since, until, range)
        report = newsletter(title, _period(since, until, range), changes, noted, most)
        return await self._told(report, "newsletter", template, lead)

    @action
    async def incident(
        self,
        documents: Annotated[
            list[File], Field(min_length=1, max_length=50, description="Timeline and notes.")
        ],
        title: Title = "Incident report",
        template: Template = None,
        lead: Lead = False,
    ) -> SkillResult:
        """Write up an incident: impact, timeline, spans, cause, actions."""
        noted = await asyncio.to_thread(notes, documents)
        return await self._told(incident(title, noted), "incident", template, lead)

    @action
    async def faq(
        self,
        documents: Annotated[
            list[File], Field(min_length=1, max_length=50, description="Where answers are.")
        ],
        questions: Annotated[
            list[Annotated[str, Field(min_length=3, max_length=300)]],
            Field(max_length=50, description="What is asked of them besides."),
        ] = [],  # noqa: B006
        title: Title = "Questions and answers",
    ) -> SkillResult:
        """Collect questions and answers, each answer a quoted line."""
        report = await asyncio.to_thread(faq, title, documents, questions)
        return await self._told(report, "faq", None, lead=False)

    async def _told(
        self, report: Report, name: str, template: Path | None, lead: bool
    ) -> SkillResult:
        """The report as a file and as data, once every statement was found to have a source."""
        report.checked()
        remarks = await self._lead(report) if lead else []
        text, unplaced = markdown(report, text_of(template) if template else None)
        remarks += [f"The template has no place for {{{{{key}}}}}." for key in unplaced]
        path = self.context.artifact(f"{name}.md")
        path.write_text(text)
        told: dict[str, JSON] = {"file": path.name, **report.told()}
        counts = f"{sum(1 for _ in report.statements())} statements"
        sources = f"{len(report.ledger().numbers)} sources"
        summary = f"{path.name}: {counts} from {sources}; {len(report.gaps)} gaps."
        return SkillResult(told, summary, tuple(remarks))

    async def _lead(self, report: Report) -> list[str]:
        """Let a model sum up; what was left out and why."""
        answer = await self.context.generate(prompt(report))
        if answer is None:
            return ["There is no lead: no language model is served."]
        report.lead, lost = borne_out(answer, report)
        return [f"{lost} sentences of the model were not borne out and left out."] if lost else []


async def _read(
    repository: Path | None, documents: list[Path], since: str, until: str, span: str
) -> tuple[list[Commit], list[Note]]:
    if repository is None and not documents:
        raise SkillFailed("Give a `repository`, `documents`, or both.")
    changes = await asyncio.to_thread(commits, repository, since, until, span) if repository else []
    return changes, await asyncio.to_thread(notes, documents)


def _period(since: str, until: str, span: str) -> str:
    parts = (f"since {since}" if since else "", f"until {until}" if until else "", span)
    return ", ".join(part for part in parts if part)
