"""The code under review, as text: read from files or below a folder, never followed or run."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from ai_stack.skill import SkillFailed

MAX_FILE_BYTES, MAX_TOTAL_BYTES, MAX_FILES, MAX_ENTRIES = 1 << 20, 64 << 20, 2_000, 200_000
NEVER = {".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".direnv"}


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text by its path within the review.

    `lines`: those under review, None for all. `whole`: whether the text is the whole file, and not
    the part of it that a diff shows.
    """

    path: str
    text: str
    lines: frozenset[int] | None = None
    whole: bool = True


@dataclass(slots=True)
class Reading:
    """What has been read so far; `left_out` counts files by why they are not in it."""

    sources: list[Source] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0

    def take(self, file: Path, name: str, lines: frozenset[int] | None = None) -> None:
        """Add a file, or count why it can not be."""
        if len(self.sources) >= MAX_FILES or self.size_bytes > MAX_TOTAL_BYTES:
            return self.leave("beyond the bounds of one review")
        content = _content(file)
        if isinstance(content, str):
            return self.leave(content)
        if b"\0" in content[:8192]:
            return self.leave("not text")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return self.leave("not UTF-8")
        self.size_bytes += len(content)
        self.sources.append(Source(name, text, lines))
        return None

    def leave(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1


def of_files(files: Sequence[Path]) -> Reading:
    """The files that are named, by their names alone; SkillFailed where none can be read."""
    reading, taken = Reading(), set[str]()
    for number, file in enumerate(files, 1):
        name = file.name if file.name not in taken else f"{number}/{file.name}"
        taken.add(name)
        reading.take(file, name)
    return _some(reading)


def of_folder(folder: Path, only: Sequence[str] = ()) -> Reading:
    """The files below a folder that its .gitignore files do not leave out."""
    if not folder.is_dir():
        raise SkillFailed("The folder is not there, or is no folder.")
    wanted = GitIgnoreSpec.from_lines(only) if only else None
    reading = Reading()
    for name in _names(folder):
        if wanted is None or wanted.match_file(name):
            reading.take(folder / name, name)
    return _some(reading)


def below(folder: Path, name: str) -> Path | None:
    """The regular file of this name below a folder; None where it is none, or outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return None
    file = folder / path
    inside = file.resolve().is_relative_to(folder.resolve())
    return file if inside and file.is_file() and not file.is_symlink() else None


def write(sources: Iterable[Source], folder: Path) -> None:
    """The sources as files of a folder, for tools that read files."""
    for source in sources:
        file = folder / source.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source.text, "utf-8")


def _some(reading: Reading) -> Reading:
    if not reading.sources:
        told = ", ".join(f"{n} {why}" for why, n in reading.left_out.items())
        raise SkillFailed(f"There is nothing to review{': ' + told if told else ''}.")
    return reading


def _content(file: Path) -> bytes | str:
    """The bytes of a regular file, or why there are none."""
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "no regular file"
        if status.st_size > MAX_FILE_BYTES:
            return f"larger than {MAX_FILE_BYTES >> 20} MiB"
        return file.read_bytes()
    except OSError:
        return "unreadable"


def _names(folder: Path) -> Iterator[str]:
    """The paths of files below a folder, in order; SkillFailed when there is no end to them."""
    rules: dict[str, GitIgnoreSpec] = {}
    seen = 0
    for place, folders, files in os.walk(folder):
        at = Path(place).relative_to(folder).as_posix()
        if ".gitignore" in files:
            rules[at] = _rules(Path(place) / ".gitignore")
        seen += len(files) + len(folders)
        if seen > MAX_ENTRIES:
            raise SkillFailed(f"The folder has more than {MAX_ENTRIES:,} entries; name a part.")
        folders[:] = sorted(
            n for n in folders if n not in NEVER and not _ignored(rules, _joined(at, n) + "/")
        )
        yield from (name for n in sorted(files) if not _ignored(rules, name := _joined(at, n)))


def _joined(at: str, name: str) -> str:
    return name if at == "." else f"{at}/{name}"


def _rules(file: Path) -> GitIgnoreSpec:
    content = _content(file)
    text = "" if isinstance(content, str) else content.decode("utf-8", "replace")
    return GitIgnoreSpec.from_lines(text.splitlines())


def _ignored(rules: dict[str, GitIgnoreSpec], name: str) -> bool:
    """Whether the nearest .gitignore with an opinion leaves a path out."""
    for parent in PurePosixPath(name).parents:
        at = parent.as_posix()
        spec = rules.get(at)
        if spec is not None:
            verdict = spec.check_file(name if at == "." else name.removeprefix(at + "/")).include
            if verdict is not None:
                return verdict
    return False
