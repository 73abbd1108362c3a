"""A report: sections of statements, each with its sources, and how it is written down."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ai_stack.skill import JSON, SkillFailed

from .sources import Ledger, Source, plain

SLOT = re.compile(r"\{\{\s*([\w-]+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Statement:
    """Something said, and where it comes from; `computed` is counted or measured, not quoted."""

    text: str
    sources: tuple[Source, ...]
    computed: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Statements under a head; `key` is its name in templates."""

    key: str
    title: str
    statements: tuple[Statement, ...] = ()


@dataclass(slots=True)
class Report:
    """What is told. `gaps` are what no source says and one would look for."""

    title: str
    period: str
    sections: list[Section]
    gaps: list[str] = field(default_factory=list)
    lead: list[Statement] = field(default_factory=list)

    def ledger(self) -> Ledger:
        """All sources, numbered as they come."""
        found = Ledger()
        for _, statement in self.statements():
            for source in statement.sources:
                found.number(source)
        return found

    def statements(self) -> Iterator[tuple[str, Statement]]:
        """Every statement with the key of its section."""
        yield from (("lead", statement) for statement in self.lead)
        for section in self.sections:
            yield from ((section.key, statement) for statement in section.statements)

    def checked(self) -> None:
        """SkillFailed for a report that says nothing, or says a thing without its source."""
        if not any(True for _ in self.statements()):
            raise SkillFailed("The sources say nothing for this: check the dates and the files.")
        for _, statement in self.statements():
            if not statement.sources:
                raise SkillFailed(f"A statement has no source: {statement.text[:80]!r}.")

    def told(self) -> dict[str, JSON]:
        """The report as data."""
        ledger = self.ledger()
        said: list[JSON] = [
            {
                "section": key,
                "text": one.text,
                "sources": [ledger.number(source) for source in one.sources],
                "computed": one.computed,
            }
            for key, one in self.statements()
        ]
        gaps: list[JSON] = [*self.gaps]
        return {"title": self.title, "statements": said, "sources": ledger.told(), "gaps": gaps}


def listed(statements: Iterable[Statement], most: int, what: str) -> tuple[Statement, ...]:
    """The first of many statements; the rest are counted, with their sources."""
    found = [*statements]
    if len(found) <= most + 1:
        return tuple(found)
    rest = tuple(source for one in found[most:] for source in one.sources)
    more = Statement(f"{len(found) - most} more {what}", rest, computed=True)
    return (*found[:most], more)


def markdown(report: Report, template: str | None) -> tuple[str, list[str]]:
    """The report's text, and the sections that a template has no place for."""
    ledger = report.ledger()
    parts = {s.key: _body(s.statements, ledger) for s in report.sections if s.statements}
    fixed = {
        "title": plain(report.title),
        "period": plain(report.period),
        "sources": _sources(ledger),
        "lead": " ".join(_line(one, ledger) for one in report.lead),
        "gaps": "\n".join(f"- {gap}" for gap in report.gaps),
    }
    if template is None:
        return _plain_report(report, parts, fixed), []
    known = {**{s.key: "" for s in report.sections}, **parts, **fixed}
    return _filled(template, known, [*parts])


def _plain_report(report: Report, parts: dict[str, str], fixed: dict[str, str]) -> str:
    out = [f"# {fixed['title']}", fixed["period"], fixed["lead"]]
    out += [f"## {s.title}\n\n{parts[s.key]}" for s in report.sections if s.key in parts]
    if report.gaps:
        out.append(f"## Not in the sources\n\n{fixed['gaps']}")
    out.append(f"## Sources\n\n{fixed['sources']}")
    return "\n\n".join(part for part in out if part) + "\n"


def _filled(template: str, known: dict[str, str], wanted: Sequence[str]) -> tuple[str, list[str]]:
    slots = {name.lower() for name in SLOT.findall(template)}
    if unknown := sorted(slots - set(known)):
        raise SkillFailed(
            f"The template asks for {', '.join(unknown)}; there are {', '.join(known)}."
        )
    text = SLOT.sub(lambda m: known[m[1].lower()], template)
    if "sources" not in slots:
        text = f"{text.rstrip()}\n\n## Sources\n\n{known['sources']}\n"
    return text, [key for key in wanted if key not in slots]


def _body(statements: Iterable[Statement], ledger: Ledger) -> str:
    return "\n".join(f"- {_line(one, ledger)}" for one in statements)


def _line(one: Statement, ledger: Ledger) -> str:
    return f"{plain(one.text)} {references([ledger.number(s) for s in one.sources])}"


def references(numbers: Sequence[int]) -> str:
    """Numbers in brackets, runs of three and more as a span."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs]
    return f"[{', '.join(parts)}]"


def _sources(ledger: Ledger) -> str:
    return "\n".join(f"{number}. {source.told}" for source, number in ledger.numbers.items())
