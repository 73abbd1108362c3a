"""The file of a backup: written in one go, read in one go, and known whole by its first line."""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ai_stack.errors import StackError
from ai_stack.services.backup import FORMAT, Header, Manifest, Share
from ai_stack.services.backup.ages import decrypted, encrypted

MAGIC = b"AI-STACK-BACKUP "
MANIFEST = "manifest.json"
FIRST_BYTES = len(MAGIC) + len("1 ") + 64 + len(" ") + 20 + len("\n")
HEADER_MAX, MANIFEST_MAX = 64 << 10, 64 << 20
PIECE_BYTES = 4 << 20
READ_BYTES = 1 << 20


class Damaged(StackError):
    """The backup is damaged: it does not have the bytes that it was written with."""


@dataclass
class _Tally:
    """What has come of a part so far; the digest is over names, sizes and bytes."""

    files: int = 0
    size_bytes: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def begin(self, name: str, size: int) -> None:
        self.files += 1
        self.size_bytes += size
        self.digest.update(b"%s\0%d\0" % (os.fsencode(name), size))

    def share(self) -> Share:
        return Share(self.files, self.size_bytes, self.digest.hexdigest())


class Tallies(dict[str, _Tally]):
    """The parts of a bundle by name: the first step of each file's path."""

    def begin(self, name: str, size: int) -> _Tally:
        tally = self.setdefault(name.partition("/")[0], _Tally())
        tally.begin(name, size)
        return tally

    def shares(self) -> dict[str, Share]:
        return {name: tally.share() for name, tally in self.items()}


class _Digested:
    """Writes to a file what it also takes the digest of."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest, self.length = hashlib.sha256(), 0

    def write(self, data: bytes, /) -> int:
        self.digest.update(data)
        self.length += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


class Writer:
    """Adds files to a bundle; a stream of unknown length becomes numbered pieces of one part."""

    def __init__(self, tar: tarfile.TarFile, mtime: int) -> None:
        self.tallies = Tallies()
        self._tar, self._mtime = tar, mtime

    def add(self, name: str, content: bytes) -> None:
        self.copy(name, io.BytesIO(content), len(content))

    def copy(self, name: str, source: Any, size: int) -> None:
        """Add so many bytes of a file; StackError when it has fewer."""
        tally = self.tallies.begin(name, size)
        try:
            self._tar.addfile(self._entry(name, size), _Watched(source, tally))
        except OSError as error:
            raise StackError(f"{name} cannot be backed up: {error}.") from error

    def pieces(self, part: str) -> "Pieces":
        return Pieces(self, part)

    def manifest(self, manifest: Manifest) -> None:
        content = json.dumps(manifest.json()).encode()
        self._tar.addfile(self._entry(MANIFEST, len(content)), io.BytesIO(content))

    def _entry(self, name: str, size: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = size, self._mtime, 0o600
        return entry


@dataclass
class _Watched:
    """Reads a file and takes the digest of what is read."""

    source: Any
    tally: _Tally

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self.source.read(size)
        self.tally.digest.update(data)
        return data


class Pieces:
    """Takes bytes as they come, and adds them to the bundle by the piece."""

    def __init__(self, writer: Writer, part: str) -> None:
        self._writer, self._part = writer, part
        self._held, self._number = bytearray(), 0

    def write(self, data: bytes) -> None:
        self._held += data
        while len(self._held) >= PIECE_BYTES:
            self._put(bytes(self._held[:PIECE_BYTES]))
            del self._held[:PIECE_BYTES]

    def close(self) -> None:
        if self._held:
            self._put(bytes(self._held))
            self._held.clear()

    def _put(self, piece: bytes) -> None:
        self._writer.add(f"{self._part}/{self._number:06}", piece)
        self._number += 1


@contextmanager
def create(file: BinaryIO, header: Header, recipients: Sequence[Any], at: int) -> Iterator[Writer]:
    """Write a bundle into an empty file; it is one when the context is left without an error."""
    file.write(b"\0" * FIRST_BYTES)
    sink = _Digested(file)
    sink.write(json.dumps(asdict(header)).encode() + b"\n")
    with (
        _sealed(sink, recipients) as plain,
        tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        yield Writer(tar, at)
    file.seek(0)
    file.write(b"%s%d %s %020d\n" % (MAGIC, FORMAT, _hex(sink.digest), sink.length))
    file.flush()
    os.fsync(file.fileno())


def _hex(digest: Any) -> bytes:
    return str(digest.hexdigest()).encode()


def _sealed(sink: _Digested, recipients: Sequence[Any]) -> AbstractContextManager[Any]:
    return encrypted(sink, recipients) if recipients else nullcontext(sink)


def read_header(path: Path) -> Header:
    """What a bundle says without its key; StackError for a file that is none, or a newer one."""
    try:
        with path.open("rb") as file:
            _first(path, file)
            return _header(path, file)
    except OSError as error:
        raise StackError(f"The backup {path} cannot be read: {error.strerror}.") from None


def check_bytes(path: Path, told: Callable[[int], None] = lambda size: None) -> Header:
    """Read the whole file and see that it has every byte it was written with; no key is needed."""
    header = read_header(path)
    with path.open("rb") as file:
        expected, length = _first(path, file)
        found = path.stat().st_size - FIRST_BYTES
        if found != length:
            word = "truncated" if found < length else "longer than it was written"
            raise Damaged(f"The backup {path} is {word}: {found} of {length} bytes.")
        digest = hashlib.sha256()
        while data := file.read(READ_BYTES):
            digest.update(data)
            told(len(data))
    if digest.hexdigest() != expected:
        raise Damaged(f"The backup {path} is damaged: its bytes are not those it was written with.")
    return header


def _first(path: Path, file: BinaryIO) -> tuple[str, int]:
    """The digest and length that the first line tells."""
    line = file.read(FIRST_BYTES)
    if not line.startswith(MAGIC):
        raise StackError(f"{path} is no backup of AI Stack.")
    version = re.match(rb"[0-9]{1,4}(?= )", line[len(MAGIC) :])
    if version is not None and int(version[0]) != FORMAT:
        raise StackError(
            f"The backup {path} has format {int(version[0])}, and this AI Stack knows {FORMAT}: "
            "install the version that made it."
        )
    found = re.fullmatch(rb"1 ([0-9a-f]{64}) ([0-9]{20})\n", line[len(MAGIC) :])
    if found is None:
        raise Damaged(f"The backup {path} is damaged, or truncated at its very beginning.")
    return found[1].decode(), int(found[2])


def _header(path: Path, file: BinaryIO) -> Header:
    try:
        return Header(**json.loads(file.readline(HEADER_MAX)))
    except (ValueError, TypeError):
        raise Damaged(f"The backup {path} is damaged: its second line cannot be read.") from None


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a bundle, to be read before the next one is asked for."""

    name: str
    size_bytes: int
    source: "_Watched"

    @property
    def part(self) -> str:
        return self.name.partition("/")[0]

    def pieces(self) -> Iterator[bytes]:
        while data := self.source.read(READ_BYTES):
            yield data


class Reader:
    """Reads a bundle's files in their order; `manifest` is there when all have been read."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self.manifest: Manifest | None = None
        self._tar, self._tallies = tar, Tallies()

    def entries(self) -> Iterator[Entry]:
        """Each file; what of it was not read is read over. Damaged when the digests differ."""
        try:
            for member in self._tar:
                yield from self._entry(member)
        except (tarfile.TarError, EOFError, UnicodeError) as error:
            raise Damaged from error
        if self.manifest is None or self.manifest.shares != self._tallies.shares():
            raise Damaged("The backup is damaged: its parts are not those that it lists.")

    def _entry(self, member: tarfile.TarInfo) -> Iterator[Entry]:
        source = self._tar.extractfile(member)
        if source is None or self.manifest is not None or not _is_plain(member.name):
            raise Damaged("The backup is damaged: it holds what no backup holds.")
        if member.name == MANIFEST:
            self.manifest = _manifest(source.read(MANIFEST_MAX))
            return
        entry = Entry(
            member.name,
            member.size,
            _Watched(source, self._tallies.begin(member.name, member.size)),
        )
        yield entry
        for _ in entry.pieces():
            pass


def _is_plain(name: str) -> bool:
    """Whether a name stays within the folder that it is written to."""
    return not name.startswith("/") and "\0" not in name and ".." not in name.split("/")


def _manifest(content: bytes) -> Manifest:
    try:
        return Manifest.read(json.loads(content))
    except (ValueError, TypeError, KeyError):
        raise Damaged("The backup is damaged: its manifest cannot be read.") from None


@contextmanager
def opened(path: Path, identities: Sequence[Any]) -> Iterator[Reader]:
    """Read the files of a bundle; StackError for an encrypted one without its key."""
    with path.open("rb") as file:
        _first(path, file)
        header = _header(path, file)
        if header.encrypted and not identities:
            raise StackError(
                f"The backup {path} is encrypted: name the file of your identity by --identity or "
                "AI_STACK_BACKUP_IDENTITY."
            )
        plain = decrypted(file, identities) if header.encrypted else nullcontext(file)
        with plain as stream, _tar(stream) as tar:
            yield Reader(tar)


@contextmanager
def _tar(stream: BinaryIO) -> Iterator[tarfile.TarFile]:
    try:
        tar = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 (closed below)
    except (tarfile.TarError, EOFError) as error:
        raise Damaged from error
    with tar:
        yield tar
