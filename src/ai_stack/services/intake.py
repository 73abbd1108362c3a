"""The way of a run's files into the database: read ahead of the writing, written in batches.

Every file ends with a state of its own, in the transaction of its document. What is left
`waiting` when a worker dies is what the next one goes on with.
"""

import asyncio
import mimetypes
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol, cast

from ai_stack.database import Database, Transaction, run_files
from ai_stack.database import imports as rows
from ai_stack.database.imports import Stored
from ai_stack.database.run_files import Result, WaitingFile
from ai_stack.errors import AIStackError, AlreadyExists, LimitExceeded, StorageFull, Unavailable
from ai_stack.models.documents import JSON, Metadata, NewDocument
from ai_stack.parsers import Parsed
from ai_stack.services.exports import is_line
from ai_stack.services.handlers import RunContext
from ai_stack.services.limits import Held, Limits
from ai_stack.services.restoring import Restoration
from ai_stack.services.sources import FileSource
from ai_stack.services.storable import check
from ai_stack.services.uploads import RESTORED

PAGE = 200
AHEAD_FILES, AHEAD_BYTES = 32, 64 << 20
BATCH, BATCH_CHARACTERS = 64, 4 << 20
TRIES = 5
PATIENCE_S = 60  # a limit that opens sooner is waited for
MEDIA_TYPES = mimetypes.MimeTypes()
MARKDOWN = (".md", ".markdown")
UNTOLD = (None, "", "application/octet-stream")


class Parser(Protocol):
    """What reads a file's text, as parsers.pool.ParserPool does."""

    async def parse(
        self, name: str, source: Path | bytes, media_type: str | None = None
    ) -> Parsed: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A file that was read: a document to store, an export to restore, or a result already."""

    file: WaitingFile
    document: NewDocument | None = None
    result: Result | None = None


Pending = deque[tuple[WaitingFile, asyncio.Task[Reading]]]


@dataclass
class Tally:
    """What a run has done: files, documents by change, and the versions of their changes."""

    total: int
    done: int
    documents: dict[str, int]
    first: int | None = None
    last: int = 0

    def count(self, stored: Sequence[Stored]) -> None:
        for one in stored:
            self.documents[one.change] = self.documents.get(one.change, 0) + 1
            if one.version is not None:
                self.first = one.version if self.first is None else min(self.first, one.version)
                self.last = max(self.last, one.version)


@dataclass
class Intake:
    """One run's work."""

    database: Database
    parser: Parser
    context: RunContext
    source: FileSource
    tally: Tally
    limits: Limits | None = None
    _ready: list[Reading] = field(default_factory=list)

    async def read_all(self) -> None:
        """Bring all waiting files to their end.

        Raises Unavailable when a part is down that reading or storing needs.
        """
        pending: Pending = deque()
        try:
            async for file, known in self._files():
                pending.append((file, asyncio.create_task(self._read(file, known))))
                while _is_full(pending):
                    await self._take(pending)
            while pending:
                await self._take(pending)
            await self._write()
        finally:
            for _, task in pending:
                task.cancel()
            await asyncio.gather(*(task for _, task in pending), return_exceptions=True)

    async def _files(self) -> AsyncIterator[tuple[WaitingFile, Stored | None]]:
        """Waiting files in their order, and the document that each one's bytes made before."""
        after = -1
        while True:
            async with self._transaction() as tx:
                files = await run_files.waiting(tx, self.context.run.id, after, PAGE)
                known = await rows.sources(tx, [self._key(file.path) for file in files])
            for file in files:
                after = file.number
                id, digest = known.get(self._key(file.path), (None, None))
                same = id is not None and digest == file.source_hash
                yield file, Stored(id, "unchanged") if same and id is not None else None
            if len(files) < PAGE:
                return

    async def _take(self, pending: Pending) -> None:
        """Wait for the next file; write when there is enough, or nothing else to do."""
        if self._ready and not pending[0][1].done():
            await self._write()
        reading = await pending[0][1]
        pending.popleft()
        if reading.document is None and reading.result is None:
            await self._write()
            await self._restore(reading.file)
            return
        if reading.document is not None and self._has(reading.document.key):
            await self._write()
        self._ready.append(reading)
        characters = sum(len(r.document.content) for r in self._ready if r.document is not None)
        if len(self._ready) >= BATCH or characters >= BATCH_CHARACTERS:
            await self._write()

    def _has(self, key: str | None) -> bool:
        return any(r.document is not None and r.document.key == key for r in self._ready)

    async def _read(self, file: WaitingFile, known: Stored | None) -> Reading:
        if known is not None:
            return Reading(file, result=Result(file.number, "unchanged", None, known.document_id))
        try:
            return await self._parsed(file)
        except AIStackError as error:
            if error.status >= 500:
                raise
            return Reading(file, result=Result(file.number, "failed", error.message))

    async def _parsed(self, file: WaitingFile) -> Reading:
        if file.path.endswith(RESTORED) and (found := self.source.lines(file)) is not None:
            async with aclosing(found) as lines:
                if is_line(await anext(lines, b"")):
                    return Reading(file)
        data = await self.source.read(file)
        if data is None:
            return Reading(file, result=Result(file.number, "deleted"))
        kind = file.media_type
        parsed = await self.parser.parse(file.path, data, None if kind in UNTOLD else kind)
        document = self._document(file, parsed, file.source_hash or sha256(data).hexdigest())
        check([document])
        return Reading(file, document)

    def _document(self, file: WaitingFile, parsed: Parsed, digest: str) -> NewDocument:
        kind = file.media_type
        if kind in UNTOLD:
            kind = MEDIA_TYPES.guess_type(file.path)[0]
            kind = "text/markdown" if file.path.lower().endswith(MARKDOWN) else kind
        own: dict[str, JSON] = {
            **parsed.metadata,
            "path": file.path,
            "title": parsed.title,
            "media_type": kind or "text/plain",
            "language": parsed.language,
            "source": "import",
        }
        return NewDocument(
            parsed.text, {**own, **self._given()}, self._key(file.path), source_hash=digest
        )

    async def _write(self) -> None:
        """Store what is ready, or each one alone when one of them cannot be stored."""
        ready, self._ready = self._ready, []
        if not ready:
            return
        try:
            await self._store(ready)
        except (Unavailable, StorageFull):
            raise
        except AIStackError as error:
            if len(ready) == 1:
                await self._settle([Result(ready[0].file.number, "failed", error.message)])
            else:
                for reading in ready:
                    self._ready = [reading]
                    await self._write()

    async def _store(self, ready: Sequence[Reading]) -> None:
        documents = [r.document for r in ready if r.document is not None]
        self.tally.count(await self._upsert(documents, ready))
        await self._tell(len(ready))

    async def _upsert(
        self, documents: Sequence[NewDocument], ready: Sequence[Reading]
    ) -> list[Stored]:
        """Store documents, and what became of their files, in one transaction.

        Raises LimitExceeded; what opens within a minute is waited for.
        """
        for left in reversed(range(TRIES)):
            try:
                async with self._counted(len(documents)), self._transaction() as tx:
                    stored = await rows.upsert(tx, documents)
                    if ready:
                        await run_files.settle(tx, self.context.run.id, _results(ready, stored))
                return stored
            except AlreadyExists:  # somebody took a key meanwhile: now it is to be replaced
                if not left:
                    raise
        return []

    @asynccontextmanager
    async def _counted(self, documents: int) -> AsyncIterator[None]:
        """Around storing them: what fails is not counted."""
        held = await self._reserved(documents)
        try:
            yield
        except BaseException:
            if self.limits is not None:
                self.limits.settle(held, 0)
            raise

    async def _reserved(self, documents: int) -> Held:
        principal = self.context.principal
        for left in reversed(range(TRIES)):
            if self.limits is None or not principal.limits:
                break
            try:
                return await self.limits.reserve(principal, "documents", documents)
            except LimitExceeded as error:
                if not left or error.opens_in_s > PATIENCE_S:
                    raise
                await asyncio.sleep(error.opens_in_s)
        return []

    async def _settle(self, results: Sequence[Result]) -> None:
        async with self._transaction() as tx:
            await run_files.settle(tx, self.context.run.id, results)
        await self._tell(len(results))

    async def _tell(self, files: int) -> None:
        self.tally.done += files
        message = f"{self.tally.done} of {self.tally.total} files read"
        documents = sum(self.tally.documents.values())
        done, total = self.tally.done, self.tally.total
        await self.context.progress(
            done, total, message, at_once=done == total, documents=documents
        )

    async def _restore(self, file: WaitingFile) -> None:
        """Store the documents of an export's lines as they were, a batch at a time."""
        lines = self.source.lines(file)
        assert lines is not None
        restoration = Restoration(self._given(), self._prefix())
        async for batch in restoration.batches(lines):
            stored = await self._upsert(batch, [])
            restoration.count(stored)
            self.tally.count(stored)
            await self._tell(0)
        await self._settle([restoration.result(file.number)])

    def _given(self) -> Metadata:
        return cast(Metadata, self.context.input.get("metadata") or {})

    def _prefix(self) -> str:
        return str(self.context.input.get("prefix") or "")

    def _key(self, path: str) -> str:
        return self._prefix() + path

    def _transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self.database.transaction(self.context.principal.project_id)


def _is_full(pending: Pending) -> bool:
    size = sum(file.size_bytes for file, _ in pending)
    return len(pending) >= AHEAD_FILES or (size > AHEAD_BYTES and len(pending) > 1)


def _results(ready: Sequence[Reading], stored: Sequence[Stored]) -> list[Result]:
    """What became of each file; `stored` tells it of those with a document, in their order."""
    kept = iter(stored)
    results = []
    for reading in ready:
        result = reading.result
        if result is None:
            one = next(kept)
            result = Result(reading.file.number, one.change, None, one.document_id)
        results.append(result)
    return results
