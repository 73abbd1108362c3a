"""The text files of a source tree that its .gitignore files do not leave out."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from ai_stack.skill import SkillFailed

MAX_FILE_BYTES, MAX_FILES, MAX_ENTRIES = 1 << 20, 20_000, 200_000
NEVER = {".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".direnv"}
LOCKS = re.compile(r"(package-lock\.json|[\w.-]+\.lock|go\.sum|pnpm-lock\.yaml)$")


@dataclass(slots=True)
class Tree:
    """Texts by their paths; `left_out` counts the others by why they are not in it."""

    texts: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


def read(folder: Path, only: Sequence[str], without: Sequence[str]) -> Tree:
    """Everything below a folder that is wanted; SkillFailed where there is no end to it."""
    if not folder.is_dir():
        raise SkillFailed("The folder is not there, or is no folder.")
    wanted = GitIgnoreSpec.from_lines(only or ["*"])
    unwanted = GitIgnoreSpec.from_lines(without)
    tree = Tree()
    for name in _names(folder):
        if not wanted.match_file(name) or unwanted.match_file(name):
            continue
        text, why = _text(folder / name, name)
        if why:
            tree.left_out[why] = tree.left_out.get(why, 0) + 1
        else:
            tree.texts[name] = text
        if len(tree.texts) > MAX_FILES:
            raise SkillFailed(f"There are more than {MAX_FILES:,} files; choose some by `only`.")
    return tree


def _text(file: Path, name: str) -> tuple[str, str]:
    """A file's text, or why it is left out."""
    if LOCKS.search(name):
        return "", "lock files"
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "", "links and the like"
        if status.st_size > MAX_FILE_BYTES:
            return "", f"larger than {MAX_FILE_BYTES >> 20} MiB"
        content = file.read_bytes()
    except OSError:
        return "", "unreadable"
    if b"\0" in content:
        return "", "not text"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "", "not UTF-8"
    return (text, "") if text.strip() else ("", "empty")


def _names(folder: Path) -> Iterator[str]:
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
    text, _ = _text(file, file.name)
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
