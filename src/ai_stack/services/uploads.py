"""Uploads: files stored as they come, a mebibyte at a time, and a run that imports them.

It does not know HTTP: a face turns its request into the events below. Until the last one has
come there is no run, and what an interrupted upload left is removed.
"""

import asyncio
import hashlib
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from ai_stack.database import Database, artifacts, jobs, run_files
from ai_stack.database import runs as rows
from ai_stack.database.run_files import NewFile, Part
from ai_stack.errors import InvalidRequest, TooLarge
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.runs import Run
from ai_stack.services.downloads import check_url
from ai_stack.services.runs import Runs
from ai_stack.services.storable import check_metadata

MAX_FILES = 5000
MAX_FIELD_BYTES = 1 << 20
MAX_PREFIX = 512
MAX_PATH = 1000
PART_BYTES = 1 << 20
FLUSH_BYTES, FLUSH_FILES = 4 << 20, 200
RESTORED = (".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class FileBegins:
    """A file comes; `name` is the path that its sender gave it."""

    name: str
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class FilePiece:
    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnds:
    pass


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A field of the form: `prefix` or `metadata`."""

    name: str
    value: bytes


UploadEvent = FileBegins | FilePiece | FileEnds | FieldValue


@dataclass(frozen=True, slots=True)
class Uploads:
    """Imports of files that come with a request, or that a URL names."""

    database: Database
    runs: Runs
    max_file_bytes: int
    max_total_bytes: int
    allow_private_urls: bool = False

    async def receive(self, principal: Principal, events: AsyncIterator[UploadEvent]) -> Run:
        """Store files as they come, then queue the run that imports them.

        A file over `max_file_bytes` is kept as failed, an export (.jsonl) may be as large as
        the whole request. Raises TooLarge for the request or its only file, InvalidRequest for
        a request without files or with more than MAX_FILES.
        """
        principal.require(Scope.WRITE)
        return await self._received(principal, events, Upload.begin_import)

    async def keep(self, principal: Principal, events: AsyncIterator[UploadEvent]) -> Run:
        """Store files for runs to come, as a run that has ended; raises as `receive` does."""
        principal.require(Scope.SKILLS)
        return await self._received(principal, events, Upload.accept)

    async def _received(
        self,
        principal: Principal,
        events: AsyncIterator[UploadEvent],
        then: "Callable[[Upload], Awaitable[None]]",
    ) -> Run:
        async with self.database.transaction(principal.project_id) as tx:
            id = await rows.insert(tx, principal, rows.UPLOAD, {})
        upload = Upload(self.database, principal, id, self.max_file_bytes, self.max_total_bytes)
        try:
            async for event in events:
                await upload.take(event)
            upload.check()
            await then(upload)
        except BaseException:
            await asyncio.shield(self._forget(principal, id))
            raise
        return await self.runs.get(principal, id)

    async def _forget(self, principal: Principal, id: UUID) -> None:
        async with self.database.transaction(principal.project_id) as tx:
            await rows.delete(tx, id)

    async def fetch(
        self,
        principal: Principal,
        url: str,
        *,
        prefix: str = "",
        metadata: Mapping[str, JSON] | None = None,
    ) -> Run:
        """Queue a run that fetches a URL and imports what it answers; InvalidRequest for others
        than http and https."""
        principal.require(Scope.WRITE)
        address = check_url(url, allow_private=self.allow_private_urls)
        check_metadata(metadata or {}, "The import")
        input = _input(prefix.encode(), orjson.dumps(metadata or {})) | {"url": url}
        name = path_of(address.path.rpartition("/")[2]) or f"{address.host}.html"
        async with self.database.transaction(principal.project_id) as tx:
            id = await rows.insert(tx, principal, "import", input)
            await run_files.upsert(tx, id, [NewFile(0, name)])
            await jobs.defer(tx, id)
        return await self.runs.get(principal, id)


@dataclass
class Upload:
    """One upload under way."""

    database: Database
    principal: Principal
    run_id: UUID
    max_file_bytes: int
    max_total_bytes: int
    fields: dict[str, bytes] = field(default_factory=dict)
    _count: int = 0
    _total: int = 0
    _failed: str | None = None
    _current: "Incoming | None" = None
    _files: list[NewFile] = field(default_factory=list)
    _parts: list[Part] = field(default_factory=list)

    async def take(self, event: UploadEvent) -> None:
        """Take in one event, and store what has gathered when it is enough."""
        if isinstance(event, FilePiece):
            self._piece(event.data)
        elif isinstance(event, FileBegins):
            self._begin(event)
        elif isinstance(event, FileEnds):
            self._end()
        else:
            self._field(event)
        gathered = sum(len(part.data) for part in self._parts)
        if gathered >= FLUSH_BYTES or len(self._files) >= FLUSH_FILES:
            await self._flush()

    def check(self) -> None:
        """All has come: InvalidRequest for no file, TooLarge for one alone that is too large."""
        if self._count == 0:
            raise InvalidRequest("There is no file in this request.")
        if self._count == 1 and self._failed is not None:
            raise TooLarge(self._failed)

    async def accept(self) -> None:
        """Make it a run that has ended, with the files."""
        await self._flush()
        async with self.database.transaction(self.principal.project_id) as tx:
            await artifacts.accept(tx, self.run_id)

    async def begin_import(self) -> None:
        """Make it a run that imports the files."""
        input = _input(self.fields.get("prefix", b""), self.fields.get("metadata", b"{}"))
        await self._flush()
        async with self.database.transaction(self.principal.project_id) as tx:
            more: dict[str, JSON] = {"files": self._count, "size_bytes": self._total}
            await rows.begin_import(tx, self.run_id, input | more)
            await jobs.defer(tx, self.run_id)

    def _begin(self, event: FileBegins) -> None:
        if self._count == MAX_FILES:
            raise TooLarge(f"An import has at most {MAX_FILES} files; send the rest in another.")
        path = path_of(event.name)
        if not path:
            raise InvalidRequest(f"File {self._count + 1} has no name that could be kept.")
        limit = self.max_total_bytes if path.endswith(RESTORED) else self.max_file_bytes
        self._current = Incoming(self._count, path, event.media_type, limit)
        self._count += 1
        self._files.append(NewFile(self._current.number, path, event.media_type))

    def _piece(self, data: bytes) -> None:
        self._total += len(data)
        if self._total > self.max_total_bytes:
            raise TooLarge(f"An import has at most {self.max_total_bytes} bytes.")
        assert self._current is not None
        self._parts += self._current.take(data)

    def _end(self) -> None:
        assert self._current is not None
        self._parts += self._current.rest()
        file = self._current.file()
        self._failed = file.error or self._failed
        self._files = [f for f in self._files if f.number != file.number] + [file]
        self._current = None

    def _field(self, event: FieldValue) -> None:
        if event.name not in ("prefix", "metadata"):
            raise InvalidRequest(f"An import has no field {event.name[:100]!r}.")
        self.fields[event.name] = event.value

    async def _flush(self) -> None:
        files, parts = self._files, self._parts
        self._files, self._parts = [], []
        refused = [f.number for f in files if f.state == "failed"]
        async with self.database.transaction(self.principal.project_id) as tx:
            if files:
                await run_files.upsert(tx, self.run_id, files)
            if parts:
                await run_files.insert_parts(tx, self.run_id, parts)
            if refused:
                await run_files.delete_parts(tx, self.run_id, refused)


@dataclass
class Incoming:
    """The file that is coming: its bytes are counted and hashed on the way."""

    number: int
    path: str
    media_type: str | None
    max_bytes: int
    size_bytes: int = 0
    _parts: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, data: bytes) -> list[Part]:
        """The parts that are whole by now."""
        self.size_bytes += len(data)
        if self.size_bytes > self.max_bytes:
            self._buffer.clear()
            return []
        self._hash.update(data)
        self._buffer += data
        whole = []
        while len(self._buffer) >= PART_BYTES:
            whole.append(self._part(PART_BYTES))
        return whole

    def rest(self) -> list[Part]:
        """The last part."""
        return [self._part(len(self._buffer))] if self._buffer else []

    def _part(self, size: int) -> Part:
        part = Part(self.number, self._parts, bytes(self._buffer[:size]))
        del self._buffer[:size]
        self._parts += 1
        return part

    def file(self) -> NewFile:
        """What is known of it when it has come."""
        if self.size_bytes > self.max_bytes:
            error = f"The file is larger than {self.max_bytes} bytes."
            return NewFile(
                self.number, self.path, self.media_type, self.size_bytes, None, "failed", error
            )
        digest = self._hash.hexdigest()
        return NewFile(self.number, self.path, self.media_type, self.size_bytes, digest)


def path_of(name: str) -> str:
    """A relative path with forward slashes, in NFC, that leads nowhere else; '' when none is left.

    Of a path that is too long the end is kept.
    """
    text = unicodedata.normalize("NFC", name.replace("\\", "/"))
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs"))
    parts = [part.strip() for part in text.split("/")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        del parts[0]
    return "/".join(part for part in parts if part not in ("", ".", ".."))[-MAX_PATH:]


def _input(prefix: bytes, metadata: bytes) -> dict[str, JSON]:
    """The fields of an import as its run keeps them; InvalidRequest for what cannot be."""
    try:
        text = unicodedata.normalize("NFC", prefix.decode())
        given = orjson.loads(metadata or b"{}")
    except (UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise InvalidRequest("prefix is text, and metadata a JSON object.") from error
    if not isinstance(given, dict):
        raise InvalidRequest("metadata must be a JSON object.")
    check_metadata(given, "The import")
    if len(text) > MAX_PREFIX or any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise InvalidRequest(f"prefix has at most {MAX_PREFIX} characters, all of them printable.")
    return {"prefix": text, "metadata": given}
