"""The folder of a skill: found, read within bounds, packed."""

import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ai_stack.skill import SkillFailed

MAX_FILES, MAX_BYTES = 2_000, 32 << 20
FILE = "SKILL.md"
LEFT_OUT = {"__pycache__", ".git", ".venv", "node_modules", ".pytest_cache", ".ruff_cache"}
STAMP = (1980, 1, 1, 0, 0, 0)  # so that the same files are the same bytes


def find(folder: Path) -> Path:
    """The skill's own folder, which an archive may have within its root; SkillFailed."""
    if not folder.is_dir():
        raise SkillFailed("The folder is not there, or is no folder.")
    if (folder / FILE).is_file():
        return folder
    inner = [path for path in sorted(folder.iterdir()) if (path / FILE).is_file()]
    if len(inner) != 1:
        raise SkillFailed(f"The folder has no {FILE}, so it is no skill.")
    return inner[0]


def files(folder: Path) -> list[Path]:
    """Its files that matter, in order; SkillFailed for links and for more than is sensible."""
    found, size = list[Path](), 0
    for path in _walk(folder):
        if path.is_symlink():
            raise SkillFailed(f"{path.relative_to(folder)} is a link; a skill holds its own files.")
        size += path.stat().st_size
        found.append(path)
        if len(found) > MAX_FILES or size > MAX_BYTES:
            raise SkillFailed(f"A skill has at most {MAX_FILES:,} files and {MAX_BYTES >> 20} MiB.")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        folders[:] = sorted(f for f in folders if f not in LEFT_OUT and f not in links)
        yield from (Path(place, name) for name in sorted([*names, *links]))


def pack(folder: Path, archive: Path) -> list[dict[str, str | int]]:
    """Write the folder as a zip archive, below its own name; what is in it, with its hashes."""
    rows: list[dict[str, str | int]] = []
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in files(folder):
            content, name = path.read_bytes(), path.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(f"{folder.name}/{name}", STAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            opened.writestr(entry, content)
            digest = hashlib.sha256(content).hexdigest()
            rows.append({"path": name, "bytes": len(content), "sha256": digest})
    return rows
