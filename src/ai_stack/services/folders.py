"""A folder of files as an import sees it: what is in it, how it stands, and its bytes.

It leads nowhere else: links that leave the folder are not followed, pipes and devices are not
opened, and what is looked at is the open file, not its name.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from ai_stack.database.run_files import WaitingFile
from ai_stack.errors import InvalidRequest, NotFound, TooLarge
from ai_stack.services.uploads import path_of

BLOCK = 1 << 20
TEMPORARY = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp", ".swx", ".lock", "~")
IGNORED = ("thumbs.db", "desktop.ini", "__pycache__")
UNREADABLE = "The file cannot be read by the user that the stack runs as."

Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """A file: where it is, and its size, time and inode, which change when it changes."""

    place: Path
    mark: Mark


@dataclass(frozen=True, slots=True)
class Scan:
    """The files of a folder by their relative path, and the folders that could not be read.

    `places` are the inodes of the folder itself, as `""`, and of what is mounted below it.
    """

    files: Mapping[str, Found] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    places: Mapping[str, int] = field(default_factory=dict)

    def is_missing(self, path: str) -> bool:
        """Whether a file is gone, as far as one can see."""
        hidden = any(path.startswith(folder) for folder in self.closed)
        return path not in self.files and not hidden


def scan(root: Path) -> Scan | None:
    """What is in a folder; None when the folder itself cannot be read."""
    files: dict[str, Found] = {}
    closed: set[str] = set()
    places: dict[str, int] = {}
    folders = [(root, -1)]
    while folders:
        folder, above = folders.pop()
        try:
            device, inode = _identity(folder)
            if device != above:
                places[_prefix(root, folder)] = inode
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if not is_ignored(entry.name):
                            folders.append((Path(entry.path), device))
                    elif (found := _found(root, entry)) is not None:
                        files.setdefault(path_of(os.path.relpath(entry.path, root)), found)
        except OSError:
            if folder == root:
                return None
            closed.add(_prefix(root, folder))
    files.pop("", None)
    return Scan(files, frozenset(closed), places)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _prefix(root: Path, folder: Path) -> str:
    """What the paths of a folder's files begin with."""
    return "" if folder == root else path_of(os.path.relpath(folder, root)) + "/"


def _found(root: Path, entry: os.DirEntry[str]) -> Found | None:
    if is_ignored(entry.name):
        return None
    place = Path(entry.path)
    try:
        if entry.is_symlink() and not place.resolve().is_relative_to(root.resolve()):
            return None
        status = entry.stat()
    except (OSError, RuntimeError):  # links in a circle are a RuntimeError before Python 3.13
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(place, (status.st_size, status.st_mtime_ns, status.st_ino))


def is_ignored(name: str) -> bool:
    """Whether a name is hidden, or that of a file under way."""
    lower = name.lower()
    return lower.startswith((".", "~$", "#")) or lower.endswith(TEMPORARY) or lower in IGNORED


def blocks(root: Path, place: Path, max_bytes: int) -> Iterator[bytes]:
    """The bytes of a file within a folder.

    Raises NotFound when it is gone, TooLarge over `max_bytes`, InvalidRequest when it cannot
    be read or leads out of the folder.
    """
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(error) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or not _within(root, descriptor, place):
            raise InvalidRequest("This is not a file of the folder.")
        if status.st_size > max_bytes:
            raise TooLarge(f"The file is larger than {max_bytes} bytes.")
        taken = 0
        try:
            while block := file.read(BLOCK):
                taken += len(block)
                if taken > max_bytes:
                    raise TooLarge(f"The file is larger than {max_bytes} bytes.")
                yield block
        except OSError as error:
            raise _refusal(error) from error


def _refusal(error: OSError) -> NotFound | InvalidRequest:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound("The file is there no more.")
    return InvalidRequest(UNREADABLE)


def _within(root: Path, descriptor: int, place: Path) -> bool:
    link = Path(f"/proc/self/fd/{descriptor}")
    opened = link.readlink() if link.exists() else place.resolve()
    return opened.is_relative_to(root.resolve())


def digest(root: Path, place: Path, max_bytes: int) -> str:
    """The sha256 of a file's bytes; raises as `blocks` does."""
    found = sha256()
    for block in blocks(root, place, max_bytes):
        found.update(block)
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """The files of a folder as the source of an import; `places` by the paths of the run."""

    root: Path
    places: Mapping[str, Path]
    max_bytes: int

    async def read(self, file: WaitingFile) -> bytes | None:
        return await asyncio.to_thread(self._read, file)

    def _read(self, file: WaitingFile) -> bytes | None:
        try:
            return b"".join(blocks(self.root, self.places[file.path], self.max_bytes))
        except NotFound:
            return None

    def lines(self, file: WaitingFile) -> None:
        """A file of a folder stays one document, also when it is an export."""
