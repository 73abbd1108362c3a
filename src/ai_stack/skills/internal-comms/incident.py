"""What an incident report says: the notes by topic, the timeline, and the spans between moments."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta

from .notes import Note, Topic
from .report import Report, Section, Statement

DAY = 24 * 60
NOTICED = re.compile(r"(?i)\b(alert\w*|paged?|alarm\w*|detected|noticed|reported|ticket)\b")
SOLVED = re.compile(
    r"(?i)\b(resolved|recovered|restored|mitigated|fixed|back to normal|all clear)\b"
)
HEADS: tuple[tuple[Topic, str], ...] = (
    ("summary", "Summary"),
    ("impact", "Impact"),
    ("detection", "Detection"),
    ("cause", "Cause"),
    ("actions", "Actions"),
    ("decisions", "Decisions"),
    ("risks", "Risks"),
)
WANTED = ("impact", "timeline", "cause", "actions")


def incident(title: str, notes: Sequence[Note]) -> Report:
    """Summary, impact, timeline, spans, cause, actions, and what is missing."""
    moments = [*_ordered(note for note in notes if note.topic == "moment")]
    by_topic = {topic: _noted(notes, topic) for topic, _ in HEADS}
    by_topic["actions"] = (*by_topic["actions"], *_noted(notes, "next"))
    sections = [Section(topic, head, by_topic[topic]) for topic, head in HEADS]
    timeline = tuple(
        Statement(f"{_clock(note, minute)} {note.text}", (note.source,)) for minute, note in moments
    )
    sections[3:3] = [
        Section("timeline", "Timeline", timeline),
        Section("spans", "Spans", tuple(_spans(moments))),
    ]
    gaps = [f"{s.title}: no source says anything." for s in sections if _lacking(s)]
    if moments and not any(SOLVED.search(note.text) for _, note in moments):
        gaps.append("Resolution: no moment of the timeline says that it was over.")
    period = f"{len(moments)} moments" if moments else ""
    return Report(title, period, sections, gaps)


def _lacking(section: Section) -> bool:
    return section.key in WANTED and not section.statements


def _noted(notes: Iterable[Note], topic: Topic) -> tuple[Statement, ...]:
    return tuple(Statement(note.text, (note.source,)) for note in notes if note.topic == topic)


def _ordered(moments: Iterable[Note]) -> Iterator[tuple[int, Note]]:
    """Moments with their minute since the first day; without a date the clock only goes on."""
    found: list[tuple[int, Note]] = []
    day = 0
    first: date | None = None
    last = 0
    for note in moments:
        given = _date(note.day)
        if given is not None:
            first = first or given - timedelta(days=day)
            day = (given - first).days
        elif found and note.minutes < last:
            day += 1
        last = note.minutes
        found.append((day * DAY + note.minutes, note))
    return iter(sorted(found, key=lambda pair: pair[0]))


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _clock(note: Note, minute: int) -> str:
    clock = f"{minute % DAY // 60:02d}:{minute % 60:02d}"
    return f"{note.day} {clock}" if note.day else clock


def _spans(moments: Sequence[tuple[int, Note]]) -> Iterator[Statement]:
    """Times between moments, each computed from the two that it names."""
    if len(moments) < 2:
        return
    start = moments[0]
    noticed = next((m for m in moments if NOTICED.search(m[1].text)), None)
    solved = next((m for m in reversed(moments) if SOLVED.search(m[1].text)), None)
    for name, end in (
        ("From the first moment until it was noticed", noticed),
        ("From the first moment until it was over", solved),
        ("From the first moment to the last", moments[-1]),
    ):
        if end is not None and end is not start:
            text = f"{name}: {_span(end[0] - start[0])}"
            yield Statement(text, (start[1].source, end[1].source), computed=True)


def _span(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"
