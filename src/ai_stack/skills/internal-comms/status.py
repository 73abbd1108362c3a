"""What status reports and newsletters say, from commits and notes."""

from collections.abc import Iterable, Iterator, Sequence

from .gitlog import Commit, Sort
from .notes import Note, Topic
from .report import Report, Section, Statement, listed
from .sources import Source


def status_report(
    title: str, period: str, commits: Sequence[Commit], notes: Sequence[Note], most: int
) -> Report:
    """Numbers, done, decisions, attention, risks, next."""
    done = [*_noted(notes, "done"), *(_said(commit) for commit in commits)]
    sections = [
        Section("numbers", "Numbers", tuple(_numbers(commits))),
        Section("done", "Done", listed(done, most, "done")),
        Section("decisions", "Decisions", listed(_noted(notes, "decisions"), most, "decisions")),
        Section("attention", "Attention", tuple(_breaking(commits))),
        Section("risks", "Risks and blockers", listed(_noted(notes, "risks"), most, "risks")),
        Section("next", "Next", listed(_noted(notes, "next"), most, "to do")),
    ]
    return Report(title, period, sections, [*_gaps(sections, ("done", "risks", "next"))])


def newsletter(
    title: str, period: str, commits: Sequence[Commit], notes: Sequence[Note], most: int
) -> Report:
    """What is new, what was mended, from the notes, who contributed."""
    sections = [
        Section("new", "New", listed(_sorted(commits, "new"), most, "new things")),
        Section("mended", "Mended", listed(_sorted(commits, "mended"), most, "repairs")),
        Section("attention", "Before you update", tuple(_breaking(commits))),
        Section("other", "Also changed", listed(_sorted(commits, "other"), most, "changes")),
        *_headed(notes, most),
        Section("people", "Thanks to", tuple(_people(commits))),
    ]
    return Report(title, period, sections)


def _said(commit: Commit) -> Statement:
    return Statement(commit.text, (commit.source,))


def _sorted(commits: Iterable[Commit], sort: Sort) -> list[Statement]:
    return [_said(commit) for commit in commits if commit.sort == sort]


def _noted(notes: Iterable[Note], topic: Topic) -> list[Statement]:
    return [Statement(note.text, (note.source,)) for note in notes if note.topic == topic]


def _breaking(commits: Iterable[Commit]) -> Iterator[Statement]:
    for commit in commits:
        if commit.breaking:
            yield Statement(commit.breaking, (commit.breaking_source,))


def _numbers(commits: Sequence[Commit]) -> Iterator[Statement]:
    if not commits:
        return
    sources = tuple(commit.source for commit in commits)
    people = len({commit.author for commit in commits})
    added, removed = sum(c.added for c in commits), sum(c.removed for c in commits)
    yield Statement(f"Commits: {len(commits)}, authors: {people}", sources, computed=True)
    yield Statement(f"Lines added: {added}, lines removed: {removed}", sources, computed=True)
    days = sorted(commit.day for commit in commits)
    yield Statement(f"From {days[0]} to {days[-1]}", sources, computed=True)


def _people(commits: Sequence[Commit]) -> Iterator[Statement]:
    by_author: dict[str, list[Source]] = {}
    for commit in commits:
        by_author.setdefault(commit.author, []).append(commit.source)
    for author, sources in sorted(by_author.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        yield Statement(f"{author}: {len(sources)}", tuple(sources), computed=True)


def _headed(notes: Sequence[Note], most: int) -> Iterator[Section]:
    """Notes of a newsletter, under the headings that they had."""
    by_heading: dict[str, list[Statement]] = {}
    for note in notes:
        by_heading.setdefault(note.heading, []).append(Statement(note.text, (note.source,)))
    for number, (heading, said) in enumerate(by_heading.items(), 1):
        key = "notes" if number == 1 else f"notes-{number}"
        yield Section(key, heading or "From the notes", listed(said, most, "notes"))


def _gaps(sections: Iterable[Section], wanted: Sequence[str]) -> Iterator[str]:
    for section in sections:
        if section.key in wanted and not section.statements:
            yield f"{section.title}: no source says anything."
