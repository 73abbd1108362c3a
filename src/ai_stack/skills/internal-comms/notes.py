"""Lines of documents, each with what its label, heading or checkbox says that it is."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ai_stack.skill import SkillFailed

from .sources import Source

Topic: TypeAlias = Literal[
    "done",
    "decisions",
    "risks",
    "next",
    "impact",
    "cause",
    "actions",
    "detection",
    "moment",
    "summary",
    "note",
]
MOST_FILES, LARGEST_BYTES, MOST_LINES = 50, 2 << 20, 50_000
LABELS: dict[str, Topic] = {
    **dict.fromkeys(("done", "shipped", "finished", "completed"), "done"),
    **dict.fromkeys(("decision", "decisions", "decided"), "decisions"),
    **dict.fromkeys(("risk", "risks", "blocked", "blocker", "blockers"), "risks"),
    **dict.fromkeys(("next", "next steps", "todo", "to do", "planned", "plan"), "next"),
    **dict.fromkeys(("impact", "effect"), "impact"),
    **dict.fromkeys(("cause", "root cause", "causes", "why"), "cause"),
    **dict.fromkeys(("action", "actions", "action items", "follow-up", "follow-ups"), "actions"),
    **dict.fromkeys(("detection", "detected"), "detection"),
    **dict.fromkeys(("summary", "abstract"), "summary"),
    **dict.fromkeys(("note", "notes"), "note"),
}
HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
BOX = re.compile(r"^[-*+]\s+\[([ xX])\]\s+(.+)$")
BULLET = re.compile(r"^(?:[-*+]|\d{1,3}[.)])\s+(.+)$")
LABEL = re.compile(r"^\**([A-Za-z][A-Za-z -]{1,20}?)\**:\**\s+(\S.*)$")
MOMENT = re.compile(
    r"^[-*+]?\s*\[?(?:(?P<day>\d{4}-\d{2}-\d{2})[T ]+)?(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)"
    r"(?::[0-5]\d(?:[.,]\d+)?)?(?:Z|[ ]?(?:UTC|GMT)|[+-]\d\d:?\d\d)?\]?\s*[-–—:]?\s+(?P<text>\S.*)$"
)


@dataclass(frozen=True, slots=True)
class Note:
    """A line, what it is about, and the heading that it stands under."""

    topic: Topic
    text: str
    source: Source
    heading: str = ""
    day: str = ""
    minutes: int = 0


def notes(paths: Sequence[Path]) -> list[Note]:
    """The lines of all documents; SkillFailed for what is no text."""
    if len(paths) > MOST_FILES:
        raise SkillFailed(f"At most {MOST_FILES} documents can be read at once.")
    return [note for path in paths for note in _notes(path.name, text_of(path))]


def text_of(path: Path) -> str:
    """A document's text."""
    if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
        raise SkillFailed(f"{path.name[:80]} is no file, or larger than {LARGEST_BYTES >> 20} MiB.")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SkillFailed(f"{path.name[:80]} is no text in UTF-8; convert it first.") from None
    if "\0" in text:
        raise SkillFailed(f"{path.name[:80]} is no text in UTF-8; convert it first.")
    return text


def _notes(name: str, text: str) -> Iterator[Note]:
    topic: Topic = "note"
    heading, fenced = "", False
    for number, raw in enumerate(text.splitlines()[:MOST_LINES], 1):
        line = raw.strip()
        fenced ^= line.startswith("```")
        if fenced or not line or line.startswith(("```", "---", "===")):
            continue
        if found := HEADING.match(line):
            heading = found[2]
            topic = LABELS.get(heading.lower().rstrip(":"), "note")
            continue
        yield _note(line, topic, heading, Source("line", f"{name}:{number}", line))


def _note(line: str, topic: Topic, heading: str, source: Source) -> Note:
    """What one line is."""
    if box := BOX.match(line):
        return Note("next" if box[1] == " " else "done", box[2], source, heading)
    if at := MOMENT.match(line):
        minutes = int(at["hour"]) * 60 + int(at["minute"])
        return Note("moment", at["text"], source, heading, at["day"] or "", minutes)
    bullet = BULLET.match(line)
    text = bullet[1] if bullet else line
    labelled = LABEL.match(text)
    known = LABELS.get(labelled[1].lower().strip()) if labelled else None
    if labelled and known:
        return Note(known, labelled[2], source, heading)
    return Note(topic, text, source, heading)
