"""A unified diff as sources: the new side of each file, and the lines that it adds."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ai_stack.skill import SkillFailed

from .sources import MAX_FILES, Reading, Source, below

MAX_BYTES, MAX_LINE = 8 << 20, 1_000_000
HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
NOWHERE = "/dev/null"


@dataclass(slots=True)
class Change:
    """One file of a diff: its new lines by number, and which of them are added."""

    path: str
    new: bool
    texts: dict[int, str] = field(default_factory=dict)
    added: set[int] = field(default_factory=set)


def of_diff(diff: str, folder: Path | None) -> Reading:
    """What a diff adds; each file is whole where it is new, or where its folder is given.

    SkillFailed for what is no diff, or one that does not fit the folder.
    """
    changes = [change for change in parsed(diff) if change.added]
    if not changes:
        raise SkillFailed("This is no unified diff that adds lines; `git diff` prints one.")
    reading = Reading()
    for change in changes[:MAX_FILES]:
        if folder is None:
            reading.sources.append(_shown(change))
        else:
            _take(reading, change, folder)
    return reading


def parsed(diff: str) -> list[Change]:
    """The files of a diff that have a new side."""
    if len(diff) > MAX_BYTES:
        raise SkillFailed(f"The diff is larger than {MAX_BYTES >> 20} MiB; give a part of it.")
    return [*_changes(iter(diff.split("\n")))]


def _changes(lines: Iterator[str]) -> Iterator[Change]:
    old, change = "", None
    for line in lines:
        if line.startswith("--- "):
            old = _path(line[4:], "a/")
        elif line.startswith("+++ "):
            path = _path(line[4:], "b/")
            change = Change(path, new=old == NOWHERE)
            if path != NOWHERE:
                yield _checked(change)
        elif (hunk := HUNK.match(line)) and change is not None:
            _read_hunk(lines, change, int(hunk[1]), int(hunk[2] or 1))


def _read_hunk(lines: Iterator[str], change: Change, number: int, count: int) -> None:
    """The new side of one hunk, `count` lines from `number` on."""
    last = number + count
    if last > MAX_LINE:
        raise SkillFailed("A hunk of the diff names lines beyond any file's end.")
    while number < last:
        line = next(lines, None)
        if line is None:
            raise SkillFailed(f"The diff ends within a hunk of {change.path[:200]}.")
        if line.startswith(("-", "\\")):
            continue
        change.texts[number] = line[1:].removesuffix("\r")
        if line.startswith("+"):
            change.added.add(number)
        number += 1


def _path(text: str, prefix: str) -> str:
    name = text.split("\t", 1)[0].strip().strip('"')
    return name.removeprefix(prefix)


def _checked(change: Change) -> Change:
    path = PurePosixPath(change.path)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in change.path:
        raise SkillFailed("A path of the diff leads out of its folder.")
    return change


def _shown(change: Change) -> Source:
    """What the diff alone shows; lines that it does not are empty, so that numbers are right."""
    text = "\n".join(change.texts.get(n, "") for n in range(1, max(change.texts) + 1)) + "\n"
    return Source(change.path, text, frozenset(change.added), whole=change.new)


def _take(reading: Reading, change: Change, folder: Path) -> None:
    file = below(folder, change.path)
    if file is None:
        raise SkillFailed(f"The folder has no file {change.path[:200]}, which the diff changes.")
    taken = len(reading.sources)
    reading.take(file, change.path, frozenset(change.added))
    if len(reading.sources) > taken:
        _compare(change, reading.sources[-1].text.splitlines())


def _compare(change: Change, lines: list[str]) -> None:
    for number in sorted(change.added):
        if number > len(lines) or lines[number - 1].rstrip() != change.texts[number].rstrip():
            raise SkillFailed(
                f"The folder is not what the diff leads to: {change.path[:200]}:{number} differs. "
                "Give the folder as it is after the change."
            )
