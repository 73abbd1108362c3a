"""The lines of a log, however large it is and however long they are; packed by gzip or not."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from ai_stack.skill import SkillFailed

MAX_LINE_BYTES = 64 << 10
MAX_LINES = 100_000_000
MAX_BYTES = 16 << 30
GZIP = b"\x1f\x8b"
OTHERS = {b"PK": "a zip archive", b"\x28\xb5": "packed by zstd", b"\xfd7": "packed by xz",
          b"BZ": "packed by bzip2"}  # fmt: skip
SNIFFED_BYTES = 1 << 12


@dataclass(slots=True)
class Lines:
    """Numbered lines without their ends; `read_bytes` of the file tells how far it is."""

    path: Path
    size_bytes: int = 0
    read_bytes: int = 0
    count: int = 0
    shortened: int = 0
    is_cut: bool = False
    is_damaged: bool = False

    def __iter__(self) -> Iterator[tuple[int, str]]:
        with self.path.open("rb") as file:
            packed = file.peek(2).startswith(GZIP)
            opened: BufferedReader | gzip.GzipFile = gzip.GzipFile(fileobj=file) if packed else file
            try:
                yield from self._lines(file, opened)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                self.is_damaged = True

    def _lines(
        self, file: BufferedReader, opened: BufferedReader | gzip.GzipFile
    ) -> Iterator[tuple[int, str]]:
        taken = 0
        while line := opened.readline(MAX_LINE_BYTES):
            self.count += 1
            taken += len(line)
            if not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
                taken += self._skip(opened)
            if self.count > MAX_LINES or taken > MAX_BYTES:
                self.is_cut = True
                return
            if not self.count & 0x3FF:
                self.read_bytes = file.tell()
            yield self.count, line.decode("utf-8", "replace").rstrip("\r\n\0")

    def _skip(self, opened: BufferedReader | gzip.GzipFile) -> int:
        """The rest of a line that is too long; how much that was."""
        self.shortened += 1
        skipped = 0
        while rest := opened.readline(MAX_LINE_BYTES):
            skipped += len(rest)
            if rest.endswith(b"\n") or skipped > MAX_BYTES:
                break
        return skipped

    @property
    def notes(self) -> tuple[str, ...]:
        told = {
            f"{self.shortened:,} lines were longer than 64 KiB and are known by their beginning.": (
                self.shortened
            ),
            f"The log goes on after {self.count:,} lines, which is where reading ended.": (
                self.is_cut
            ),
            "The packed file is damaged; what came before the damage was read.": self.is_damaged,
        }
        return tuple(text for text, holds in told.items() if holds)


def open_lines(path: Path) -> Lines:
    """The lines of a file; SkillFailed for one that is no log."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(SNIFFED_BYTES)
    except OSError:
        raise SkillFailed("The log cannot be read.") from None
    if not size:
        raise SkillFailed("The log is empty.")
    for magic, told in OTHERS.items():
        if head.startswith(magic):
            raise SkillFailed(f"The file is {told}: unpack it first (gzip is read as it is).")
    if not head.startswith(GZIP) and head.count(0) > len(head) // 20:
        raise SkillFailed("The file is binary, not a log of lines of text.")
    return Lines(path, size)
