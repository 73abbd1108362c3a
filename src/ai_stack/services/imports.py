"""Imports: the handler of runs that turn files into documents."""

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from ai_stack.database import Database, run_files
from ai_stack.database import imports as rows
from ai_stack.database.run_files import NewFile, Part
from ai_stack.errors import InvalidRequest
from ai_stack.models.documents import JSON
from ai_stack.services.downloads import Download, download
from ai_stack.services.handlers import RunContext
from ai_stack.services.intake import Intake, Parser, Tally
from ai_stack.services.limits import Limits
from ai_stack.services.sources import FileSource, UploadedFiles
from ai_stack.services.uploads import PART_BYTES

STALLED_S, LOOK_S, LONGEST_LOOK_S = 30.0, 0.25, 2.0
MEDIA_TYPES = mimetypes.MimeTypes()


@dataclass(frozen=True, slots=True)
class Imports:
    """Imports the files of a run that are waiting still, and waits for the index."""

    database: Database
    parser: Parser
    max_file_bytes: int
    allow_private_urls: bool = False
    limits: Limits | None = None

    async def __call__(self, context: RunContext) -> Mapping[str, JSON]:
        """Import what was uploaded, or what the run's URL answers."""
        url = context.input.get("url")
        if isinstance(url, str):
            await self._fetch(context, url)
        project = context.principal.project_id
        return await self.take_in(context, UploadedFiles(self.database, project, context.run.id))

    async def take_in(
        self, context: RunContext, source: FileSource, *, follow: bool = True
    ) -> Mapping[str, JSON]:
        """Import the waiting files of a run from where they are; `follow` waits for the index.

        The output counts files by state and documents by change; `pending` documents are
        stored, and the index follows when the part that it waits for is back.
        """
        async with self.database.transaction(context.principal.project_id) as tx:
            counts = await run_files.count(tx, context.run.id)
            documents = await run_files.count_documents(tx, context.run.id)
        total = sum(counts.values())
        tally = Tally(total, total - counts.get("waiting", 0), documents)
        intake = Intake(self.database, self.parser, context, source, tally, self.limits)
        await intake.read_all()
        behind = await self._follow_index(context, tally) if follow else {}
        return await self._output(context, tally, behind)

    async def _output(
        self, context: RunContext, tally: Tally, behind: Mapping[str, JSON]
    ) -> Mapping[str, JSON]:
        async with self.database.transaction(context.principal.project_id) as tx:
            counts = await run_files.count(tx, context.run.id)
            failed = await run_files.page(tx, context.run.id, after=-1, limit=1, state="failed")
        if failed and counts.get("failed") == tally.total:
            reason = f"{failed[0].path}: {failed[0].error}"
            some = f"None of the {tally.total} files could be imported. The first is "
            raise InvalidRequest(reason if tally.total == 1 else some + reason)
        states: dict[str, JSON] = {str(state): number for state, number in counts.items()}
        return {"files": tally.total, **states, "documents": tally.documents, **behind}

    async def _follow_index(self, context: RunContext, tally: Tally) -> Mapping[str, JSON]:
        """Wait until searches find what was written; what is left when nothing moves any more."""
        clock = asyncio.get_running_loop().time
        documents = sum(tally.documents.values())
        least, began, moved_at = documents + 1, clock(), clock()
        while True:
            async with self.database.transaction(context.principal.project_id) as tx:
                waiting, failed, error = await rows.behind(
                    tx, context.run.id, tally.first or 1, tally.last
                )
            if waiting < least:
                least, moved_at = waiting, clock()
            if not waiting or (error is not None and clock() - moved_at > STALLED_S):
                return _behind(waiting, failed, error)
            done = max(documents - waiting, 0)
            message = f"{done} of {documents} documents indexed"
            await context.progress(
                tally.total, tally.total, message, documents=documents, indexed=done
            )
            await asyncio.sleep(next_look_s(waiting, done, clock() - began))

    async def _fetch(self, context: RunContext, url: str) -> None:
        """Put what a URL answers in the place of an uploaded file, unless it is there."""
        async with self.database.transaction(context.principal.project_id) as tx:
            waiting = await run_files.waiting(tx, context.run.id, -1, 1)
            if not waiting or waiting[0].source_hash is not None:
                return
            await run_files.delete_parts(tx, context.run.id, [waiting[0].number])
        await context.event("step", {"fetching": url})
        async with download(
            url, max_bytes=self.max_file_bytes, allow_private=self.allow_private_urls
        ) as answer:
            await self._keep(context, waiting[0].path, answer)

    async def _keep(self, context: RunContext, path: str, answer: Download) -> None:
        digest, size = sha256(), 0
        async for part in _parts(answer.pieces):
            digest.update(part.data)
            size += len(part.data)
            async with self.database.transaction(context.principal.project_id) as tx:
                await run_files.insert_parts(tx, context.run.id, [part])
        kind = answer.media_type
        file = NewFile(0, named(path, kind), kind, size, digest.hexdigest())
        async with self.database.transaction(context.principal.project_id) as tx:
            await run_files.upsert(tx, context.run.id, [file])


def next_look_s(waiting: int, done: int, elapsed_s: float) -> float:
    """A quarter of what the rest takes at this pace: a look costs as much as a short document."""
    rest_s = waiting * elapsed_s / max(done, 1)
    return min(max(rest_s / 4, LOOK_S), LONGEST_LOOK_S)


def _behind(waiting: int, failed: int, error: str | None) -> Mapping[str, JSON]:
    behind: dict[str, JSON] = {}
    if waiting:
        behind |= {"pending": waiting, "waiting_for": error or "the index"}
    return behind | {"not_indexed": failed} if failed else behind


def named(path: str, media_type: str | None) -> str:
    """A path with the extension of its media type, where it has none of its own."""
    if "." in path.rpartition("/")[2] or media_type is None:
        return path
    return path + (MEDIA_TYPES.types_map_inv[True].get(media_type, [""])[0])


async def _parts(pieces: AsyncIterator[bytes]) -> AsyncIterator[Part]:
    buffer, number = bytearray(), 0
    async for piece in pieces:
        buffer += piece
        while len(buffer) >= PART_BYTES:
            yield Part(0, number, bytes(buffer[:PART_BYTES]))
            del buffer[:PART_BYTES]
            number += 1
    if buffer:
        yield Part(0, number, bytes(buffer))
