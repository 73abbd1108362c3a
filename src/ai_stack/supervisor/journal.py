"""Log files of the parts: written from their pipes, rotated by size, read back from the end."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

MAX_BYTES, KEPT_FILES = 10 << 20, 5
RECENT_BYTES, TAIL_BYTES = 8 << 10, 64 << 10
ISO_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?")
REDIS_STAMP = re.compile(r"\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3}")


class Journal:
    """One rotated log file. Writing never raises and never blocks: what a full disk refuses is
    dropped, counted, and told in the file once there is space again."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT_FILES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.kept = kept
        self.dropped_bytes = 0
        self._recent = b""

    def write(self, data: bytes) -> None:
        self._recent = (self._recent + data)[-RECENT_BYTES:]
        try:
            self._append(self._notice() + data)
            self.dropped_bytes = 0
        except OSError:
            self.dropped_bytes += len(data)

    def line(self, text: str) -> None:
        stamp = datetime.now(UTC).isoformat(" ", "milliseconds")
        self.write(f"{stamp} {text}\n".encode())

    def forget(self) -> None:
        """Begin anew what `recent_lines` tells: a process starts."""
        self._recent = b""

    def recent_lines(self, count: int) -> list[str]:
        """The last lines since `forget`, from memory, so that a full disk does not hide them."""
        return self._recent.decode(errors="replace").splitlines()[-count:]

    def _notice(self) -> bytes:
        if not self.dropped_bytes:
            return b""
        return b"[%d bytes were dropped: the disk was full]\n" % self.dropped_bytes

    def _append(self, data: bytes) -> None:
        if self.path.exists() and self.path.stat().st_size + len(data) > self.max_bytes:
            self._rotate()
        with self.path.open("ab", buffering=0) as file:
            file.write(data)

    def _rotate(self) -> None:
        for number in range(self.kept, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}")
            source = self.path if number == 1 else newer
            if source.exists():
                source.replace(older)


class Copy:
    """Passes on to a journal, and keeps the text."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.text = ""

    def write(self, data: bytes) -> None:
        self._journal.write(data)
        self.text += data.decode(errors="replace")


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a log, those of its rotated predecessor included when needed."""
    lines: list[str] = []
    for file in (path.with_name(f"{path.name}.1"), path):
        if file.exists():
            lines += (
                _last_bytes(file, max(TAIL_BYTES, count * 400))
                .decode(errors="replace")
                .splitlines()
            )
    return lines[-count:] if count else []


def _last_bytes(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - size))
        data = file.read()
    return data if end <= size else data.partition(b"\n")[2]


def stamped(lines: list[str], name: str) -> Iterator[tuple[str, str, str]]:
    """(time, name, line) of each line; one without a time follows the line before it."""
    time = ""
    for line in lines:
        time = _time_of(line) or time
        yield time, name, line


def _time_of(line: str) -> str:
    head = line[:120]
    if found := ISO_STAMP.search(head):
        return found[0].replace("T", " ").replace(",", ".")
    if found := REDIS_STAMP.search(head):
        moment = datetime.strptime(found[0], "%d %b %Y %H:%M:%S.%f").replace(tzinfo=UTC)
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    return ""


class Follower:
    """Reads what is added to one log, through its rotations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode, self._offset = self._seen()
        self._rest = b""

    def _seen(self) -> tuple[int, int]:
        if not self.path.exists():
            return 0, 0
        status = self.path.stat()
        return status.st_ino, status.st_size

    def new_lines(self) -> list[str]:
        inode, size = self._seen()
        if inode != self._inode or size < self._offset:
            self._inode, self._offset = inode, 0
        if size == self._offset:
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = self._rest + file.read()
            self._offset = file.tell()
        *lines, self._rest = data.split(b"\n")
        return [line.decode(errors="replace") for line in lines]
