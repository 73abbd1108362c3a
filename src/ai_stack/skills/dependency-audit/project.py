"""The lock files of a project: found below its folder, or named one by one, and read."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ai_stack.skill import JSON, SkillFailed

from .flake import read as read_flake
from .npm import read as read_npm
from .packages import Lock
from .requirements import read as read_requirements
from .tables import read as read_tables

MAX_FILE_BYTES, MAX_LOCKS, MAX_ENTRIES = 32 << 20, 200, 500_000
INSTALLED = {".git", "node_modules", "site-packages", ".venv", "venv", "vendor", "target", ".tox"}
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("pip", re.compile(r"(requirements|constraints)[\w.-]*\.(txt|lock)|[\w.-]*requirements\.txt")),
    ("pylock", re.compile(r"pylock(\.[\w-]+)?\.toml")),
    ("uv", re.compile(r"uv\.lock")),
    ("poetry", re.compile(r"poetry\.lock")),
    ("npm", re.compile(r"package-lock\.json|npm-shrinkwrap\.json")),
    ("cargo", re.compile(r"Cargo\.lock")),
    ("nix", re.compile(r"flake\.lock")),
)
# What declares dependencies, the line that does, and the kinds of files that lock them.
DECLARED = {
    "pyproject.toml": (re.compile(r"^\s*dependencies\s*=\s*\[|^\[tool\.poetry\.dependencies\]"),
                       {"uv", "poetry", "pip", "pylock"}),
    "package.json": (re.compile(r'"(dev|peer|optional)?[dD]ependencies"\s*:\s*\{'), {"npm"}),
    "Cargo.toml": (re.compile(r"^\[(dev-|build-)?dependencies"), {"cargo"}),
    "flake.nix": (re.compile(r"^\s*inputs\b"), {"nix"}),
}  # fmt: skip
OTHERS = {"package.json": ("yarn.lock", "pnpm-lock.yaml", "bun.lock")}


@dataclass(slots=True)
class Project:
    """`unlocked` are files that declare dependencies no lock file answers for, with their line."""

    locks: list[Lock] = field(default_factory=list)
    unlocked: list[tuple[str, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(lock.packages) for lock in self.locks)


def of_folder(folder: Path) -> Project:
    """The project below a folder; SkillFailed where there is nothing to audit."""
    if not folder.is_dir():
        raise SkillFailed("The folder is not there, or is no folder.")
    names = [*_names(folder)]
    project = Project()
    for name in names:
        kind = kind_of(PurePosixPath(name).name)
        if kind and len(project.locks) < MAX_LOCKS:
            project.locks.append(read(name, kind, _text(folder / name, name)))
    project.unlocked = [*_unlocked(folder, names, project.locks)]
    project.notes += _foreign(names)
    if not project.locks and not project.unlocked:
        raise SkillFailed("The folder has no lock file of pip, uv, Poetry, npm, Cargo or Nix.")
    return project


def of_files(files: Sequence[Path]) -> Project:
    """The lock files that are named, known by their names or by what they say."""
    project = Project()
    for file in files:
        text = _text(file, file.name)
        kind = kind_of(file.name) or _told(text)
        if not kind:
            raise SkillFailed(f"{file.name} is no lock file that is known here.")
        project.locks.append(read(file.name, kind, text))
    return project


def kind_of(name: str) -> str:
    """Which kind of lock file has this name; empty for none."""
    return next((kind for kind, pattern in KINDS if pattern.fullmatch(name)), "")


def read(path: str, kind: str, text: str) -> Lock:
    """One lock file."""
    if kind == "pip":
        return read_requirements(path, text)
    readers: Mapping[str, Callable[[str, Mapping[str, JSON], str], Lock]]
    readers = {"npm": read_npm, "nix": read_flake}
    if kind in readers:
        return readers[kind](path, _json(path, text), text)
    return read_tables(path, text, kind)


def _told(text: str) -> str:
    """The kind of a file whose name says nothing."""
    if text.lstrip().startswith("{"):
        return "npm" if '"lockfileVersion"' in text else "nix" if '"nodes"' in text else ""
    if "[[package]]" in text:
        return "uv" if "requires-python" in text else "cargo"
    return "pip" if re.search(r"^[\w.-]+\s*==", text, re.MULTILINE) else ""


def _json(path: str, text: str) -> Mapping[str, JSON]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise SkillFailed(f"{path} is not JSON.") from None
    if not isinstance(data, dict):
        raise SkillFailed(f"{path} is not a JSON object.")
    return data


def _text(file: Path, name: str) -> str:
    try:
        if not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
            raise SkillFailed(f"{name} is no file, or larger than {MAX_FILE_BYTES >> 20} MiB.")
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise SkillFailed(f"{name} cannot be read as UTF-8 text.") from None


def _names(folder: Path) -> Iterator[str]:
    """Files that may matter, without links and without what is installed."""
    seen = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in INSTALLED)
        seen += len(files) + len(folders)
        if seen > MAX_ENTRIES:
            raise SkillFailed(f"The folder has more than {MAX_ENTRIES:,} entries; name a part.")
        known = {*DECLARED, *(name for names in OTHERS.values() for name in names)}
        for name in sorted(files):
            path = Path(place, name)
            if (name in known or kind_of(name)) and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def _unlocked(
    folder: Path, names: Sequence[str], locks: Sequence[Lock]
) -> Iterator[tuple[str, int]]:
    for name in names:
        path = PurePosixPath(name)
        if path.name not in DECLARED:
            continue
        pattern, kinds = DECLARED[path.name]
        lines = enumerate(_text(folder / name, name).splitlines(), 1)
        line = next((n for n, text in lines if pattern.search(text)), 0)
        answered = {PurePosixPath(k.path).parent for k in locks if k.kind in kinds}
        answered |= {PurePosixPath(n).parent for n in names if _other(n, path.name)}
        if line and not answered & set(path.parents):
            yield name, line


def _other(name: str, manifest: str) -> bool:
    return PurePosixPath(name).name in OTHERS.get(manifest, ())


def _foreign(names: Sequence[str]) -> list[str]:
    """Lock files that are seen and not understood."""
    return [f"{name} was not audited: its format is not read here." for name in names
            if any(_other(name, manifest) for manifest in OTHERS)]  # fmt: skip
