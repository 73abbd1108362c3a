"""The watched folder: its files are documents, and what happens to a file happens to its document.

What was followed is told by the documents themselves (their keys, and the hash of the file
that each was read from), so a watcher may die at any time and begin anew.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from ai_stack.alongside import is_cancelled
from ai_stack.database import Database, Transaction, documents, locks, run_files
from ai_stack.database import imports as rows
from ai_stack.database.imports import Followed
from ai_stack.database.run_files import NewFile
from ai_stack.errors import AIStackError, Conflict, NotFound
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal
from ai_stack.services.folders import FolderFiles, Found, Mark, Scan, digest, scan
from ai_stack.services.handlers import RunContext
from ai_stack.services.imports import Imports
from ai_stack.services.places import HELD, Places, changed, is_below
from ai_stack.services.runs import Runs

T = TypeVar("T")

KIND = "watch"
PREFIX = "imports/"
SOURCE = "folder"
MOST_FILES = 2000
IDLE_SHARE = 20
RETRY_S, LONGEST_RETRY_S = 5.0, 300.0
TAKEN = "Another document has this key already."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Differences:
    """How the folder differs from its documents, by relative path; `broken` tells why."""

    gone: Mapping[str, Followed] = field(default_factory=dict)
    moved: Mapping[str, Followed] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[Found, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watching:
    """Follows a folder into the documents of the default project, in one process at a time."""

    database: Database
    runs: Runs
    imports: Imports
    folder: Path
    interval_s: float
    principal: Principal = field(default_factory=lambda: Principal(name="folder"))

    async def watch(self) -> None:
        """Watch without end."""
        delay = RETRY_S
        while not is_cancelled():
            try:
                async with locks.only_one(self.database, KIND) as lock:
                    await self.runs.abandon(self.principal, KIND)
                    watch = Watch(self)
                    while not is_cancelled():
                        await lock.check()
                        await asyncio.sleep(await watch.look())
                        delay = RETRY_S
            except AIStackError as error:
                log.warning("the folder cannot be followed now: %s", error.message)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY_S)


@dataclass
class Watch:
    """What one watcher remembers between two looks: the marks of the files that it followed."""

    watching: Watching
    _marks: dict[str, Mark] = field(default_factory=dict)
    _known: dict[str, Followed] | None = None
    _before: Scan | None = None
    _places: Mapping[str, int] | None = None
    _told: Mapping[str, int] | None = None

    async def look(self) -> float:
        """Follow what has been as it is for one interval; seconds until the next look."""
        clock = asyncio.get_running_loop().time
        began = clock()
        now = await asyncio.to_thread(scan, self.watching.folder)
        took = clock() - began
        if now is not None and self._before is not None:
            await self._follow(self._before, now)
        self._before = now
        return max(self.watching.interval_s, IDLE_SHARE * took)

    async def _follow(self, before: Scan, now: Scan) -> None:
        known = await self._documents()
        settled = {
            path: found
            for path, found in now.files.items()
            if self._marks.get(path) != found.mark and _is_same(before.files.get(path), found)
        }
        gone = {p: f for p, f in known.items() if before.is_missing(p) and now.is_missing(p)}
        gone = await self._certain(gone, before, now)
        portions = _portions(settled) or [{}]
        for number, part in enumerate(portions, 1):
            found = await asyncio.to_thread(self._differences, part, known, gone)
            moved = {one.document_id for one in found.moved.values()}
            gone = {p: f for p, f in gone.items() if f.document_id not in moved}
            if number == len(portions) and len(gone) <= MOST_FILES:
                found, gone = replace(found, gone=gone), {}
            await self._sync(found)
            self._marks |= {path: one.mark for path, one in part.items()}
        for rest in _portions(gone):
            await self._sync(Differences(gone=rest))
        self._marks = {path: mark for path, mark in self._marks.items() if path in now.files}

    async def _certain(
        self, gone: dict[str, Followed], before: Scan, now: Scan
    ) -> dict[str, Followed]:
        """What of `gone` was deleted: not what lay on a disk that is not there."""
        if now.places == self._places:
            return gone
        places = Places(self.watching.database, self.watching.principal)
        known = await places.known()
        standing = {p: n for p, n in known.items() if is_below(p, now.closed)} | dict(now.places)
        others = changed(known, standing, is_empty=not now.files)
        held = {path for path in gone if is_below(path, others)}
        if held:
            await self._tell(len(held), next(p for p in others if is_below(min(held), [p])), now)
        elif before.places == now.places:
            await places.keep(standing)
            self._places, self._told = now.places, None
        return {path: one for path, one in gone.items() if path not in held}

    async def _tell(self, count: int, place: str, now: Scan) -> None:
        """Leave a run that tells once what is held, and that is retried to let go of it."""
        if self._told == now.places:
            return
        self._told = now.places

        async def refuse(context: RunContext) -> Mapping[str, JSON]:
            where = self.watching.folder / place
            raise Conflict(HELD.format(count=count, place=where, run=context.run.id))

        # Numbers of 64 bits do not survive every reader of JSON.
        input: dict[str, JSON] = {"held": {path: str(n) for path, n in now.places.items()}}
        run = await self.watching.runs.perform(
            self.watching.principal, KIND, input, _nothing, refuse
        )
        log.warning("%s", run.error)

    async def _documents(self) -> dict[str, Followed]:
        """The documents that were made of files of the folder, by the files' paths."""
        if self._known is None:
            async with self._transaction() as tx:
                found = await rows.followed(tx, PREFIX, SOURCE)
            self._known = {key.removeprefix(PREFIX): one for key, one in found.items()}
        return self._known

    def _differences(
        self,
        files: Mapping[str, Found],
        known: Mapping[str, Followed],
        gone: Mapping[str, Followed],
    ) -> Differences:
        """Read files and compare; one that vanishes meanwhile is left to the next look."""
        moved: dict[str, Followed] = {}
        broken: dict[str, str] = {}
        changed: dict[str, tuple[Found, str]] = {}
        left = {one.source_hash: one for one in gone.values()}
        for path, found in files.items():
            try:
                hash = digest(self.watching.folder, found.place, self._max_bytes)
            except NotFound:
                continue
            except AIStackError as error:
                broken[path] = error.message
                continue
            if path not in known and hash in left:
                moved[path] = left.pop(hash)
            elif path not in known or known[path].source_hash != hash:
                changed[path] = (found, hash)
        return Differences({}, moved, broken, changed)

    @property
    def _max_bytes(self) -> int:
        return self.watching.imports.max_file_bytes

    async def _sync(self, found: Differences) -> None:
        """Make the documents what the folder is, in a run that tells what became of each file."""
        if not (found.gone or found.moved or found.broken or found.changed):
            return
        self._known = None
        input: dict[str, JSON] = {"prefix": PREFIX, "metadata": {"source": SOURCE}}
        places = {path: one.place for path, (one, _) in found.changed.items()}
        source = FolderFiles(self.watching.folder, places, self._max_bytes)

        async def handle(context: RunContext) -> Mapping[str, JSON]:
            return await self.watching.imports.take_in(context, source, follow=False)

        run = await self.watching.runs.perform(
            self.watching.principal, KIND, input, lambda tx, id: _record(tx, id, found), handle
        )
        async with self._transaction() as tx:
            if (await run_files.count(tx, run.id)).get("waiting"):
                raise AIStackError(run.error or "")

    def _transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self.watching.database.transaction(self.watching.principal.project_id)


async def _nothing(tx: Transaction, run_id: UUID) -> None:
    """A run without files."""


async def _record(tx: Transaction, run_id: UUID, found: Differences) -> None:
    """Delete and move documents, and list all files of the run, in its transaction."""
    files: list[NewFile] = []
    for path in found.gone:
        files.append(NewFile(len(files), path, state="deleted"))
    ids = [one.document_id for one in found.gone.values()]
    await documents.delete(tx, ids)
    for path, one in found.moved.items():
        if await rows.move(tx, one.document_id, PREFIX + path, path):
            ids.append(one.document_id)
            files.append(NewFile(len(files), path, state="updated"))
        else:
            files.append(NewFile(len(files), path, state="failed", error=TAKEN))
    for path, reason in found.broken.items():
        files.append(NewFile(len(files), path, state="failed", error=reason))
    for path, (one_found, hash) in found.changed.items():
        size = one_found.mark[0]
        files.append(NewFile(len(files), path, size_bytes=size, source_hash=hash))
    await run_files.upsert(tx, run_id, files)
    if ids:
        await documents.mark_dirty(tx, ids)


def _is_same(before: Found | None, now: Found) -> bool:
    return before is not None and before.mark == now.mark


def _portions(entries: Mapping[str, T]) -> list[dict[str, T]]:
    items = list(entries.items())
    return [dict(items[n : n + MOST_FILES]) for n in range(0, len(items), MOST_FILES)]
