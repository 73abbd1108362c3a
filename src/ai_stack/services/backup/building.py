"""Builds what a bundle holds beside what is in force: folders, files, and a database in them."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_stack.caches import copies
from ai_stack.database import dumps, jobs, migrating, open_database, runs
from ai_stack.errors import AIStackError, StackError
from ai_stack.models.principals import DEFAULT_PROJECT, Principal
from ai_stack.services.backup import (
    CONFIG,
    DATABASE,
    IMPORTS,
    KEPT,
    SECRETS,
    SKILLS,
    Progress,
    bundle,
    sources,
)
from ai_stack.services.backup.checking import Checked
from ai_stack.services.backup.sources import ENV, OPTIMIZER
from ai_stack.settings import Settings
from ai_stack.supervisor import programs, swap
from ai_stack.supervisor.account import Account
from ai_stack.supervisor.swap import Item

AHEAD = 4
# What belongs to the server or to whoever owns it, and is made anew where it is restored.
FOREIGN = (" EXTENSION ", " COMMENT - EXTENSION ", " DEFAULT ACL ")
KEYS = " FK CONSTRAINT "


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the parts of a bundle go; `files` maps the names in it to what is built."""

    items: tuple[Item, ...]
    files: dict[str, Path]
    notes: tuple[str, ...]


def plan(settings: Settings, checked: Checked) -> Plan:
    """What is to be replaced in this data folder, and what of the bundle stays out of use."""
    data, items, notes = settings.data_dir, [], []
    files: dict[str, Path] = {}
    items += [swap.inside(data, name) for name in embedded(settings)]
    imports = swap.inside(data, IMPORTS)
    items.append(imports)
    files[IMPORTS] = Path(imports.built)
    if SECRETS in checked.manifest.shares:
        ours = settings.secrets == data / "secrets"
        secrets = swap.inside(data, "secrets") if ours else swap.beside(settings.secrets)
        items.append(secrets)
        files[SECRETS] = Path(secrets.built)
    for name, place in _yours(settings):
        if _is_free(place):
            items.append(swap.beside(place))
            files[name] = Path(items[-1].built)
        else:
            notes.append(f"{place} is there already, and stays as it is")
    return Plan(tuple(items), files, (*notes, *checked.manifest.warnings))


def embedded(settings: Settings) -> list[str]:
    """The folders of the servers that the supervisor keeps."""
    owned = {
        "postgres": settings.database is None,
        "redis": settings.redis is None,
        "redis-kept": settings.redis_kept is None,
        "qdrant": settings.vectors == "qdrant-edge:",
    }
    return [name for name, is_ours in owned.items() if is_ours]


def _yours(settings: Settings) -> Iterator[tuple[str, Path]]:
    """What the user edits, by its name in a bundle: it is restored where there is nothing."""
    for name in (ENV, OPTIMIZER):
        yield f"{CONFIG}/{name}", settings.config_dir / name
    for number, place in enumerate(settings.folders_of_skills):
        yield f"{SKILLS}/{number}", place


def _is_free(place: Path) -> bool:
    return not place.exists() or (place.is_dir() and not any(place.iterdir()))


@dataclass(frozen=True, slots=True)
class Build:
    """One bundle on its way into servers and folders."""

    checked: Checked
    identities: Sequence[Any]
    account: Account | None
    told: Progress
    kept: list[bytes] = field(default_factory=list)

    async def files(self, wanted: dict[str, Path]) -> list[Path]:
        """Write the files of the bundle that are wanted; what of it was there to be written."""
        return await asyncio.to_thread(self._files, wanted)

    async def database(self, url: str) -> str:
        """Fill an empty database, see that nothing is missing, and bring it to this version.

        Returns its revision. StackError when it is not what was backed up.
        """
        manifest = self.checked.manifest
        await dumps.prepare(url, self.checked.listed)
        await self._load(url)
        self.told("checks", 0, None)
        faults = await dumps.check(url, manifest.counts, manifest.probes)
        if faults:
            raise StackError("The restored database is not the one backed up: " + "; ".join(faults))
        return await asyncio.to_thread(migrating.migrate, url)

    async def _load(self, url: str) -> None:
        """Restore the archive; of TimescaleDB's tables the foreign keys come last, since they are
        lost in its restoring mode. That order follows its manual, and never ran here.
        """
        major, timescale = await dumps.major(url), self.checked.manifest.timescale
        chosen = [line for line in self.checked.listed if not any(w in line for w in FOREIGN)]
        late = [line for line in chosen if timescale is not None and KEYS in line]
        early = [line for line in chosen if line not in late]
        await dumps.before_archive(url, timescale)
        await programs.load(url, major, early, self._archive())
        await dumps.after_archive(url, timescale)
        if late:
            await programs.load(url, major, late, self._archive())
        await dumps.complete(url)

    async def _archive(self) -> AsyncIterator[bytes]:
        """The database's part, read ahead in a thread."""
        ahead = _Ahead(self._pieces)
        done = 0
        try:
            async for piece in ahead.pieces():
                done += len(piece)
                self.told("database", done, self.checked.manifest.shares[DATABASE].size_bytes)
                yield piece
        finally:
            ahead.stop()

    def _pieces(self) -> Iterator[bytes]:
        with bundle.opened(self.checked.path, self.identities) as reader:
            for entry in reader.entries():
                if entry.part == DATABASE:
                    yield from entry.pieces()

    def _files(self, wanted: dict[str, Path]) -> list[Path]:
        for name in (IMPORTS, SECRETS):
            if name in wanted:
                self._folder(wanted[name], owned=True)
        written = set()
        with bundle.opened(self.checked.path, self.identities) as reader:
            for number, entry in enumerate(reader.entries(), 1):
                self.told("files", number, None)
                if entry.part == KEPT:
                    self.kept.append(b"".join(entry.pieces()))
                for name, built in wanted.items():
                    if entry.name == name or entry.name.startswith(f"{name}/"):
                        self._write(built, entry.name[len(name) + 1 :], entry)
                        written.add(built)
        return [built for built in wanted.values() if built in written or built.exists()]

    def _write(self, built: Path, rest: str, entry: bundle.Entry) -> None:
        path, owned = (built / rest if rest else built), entry.part in (IMPORTS, SECRETS)
        self._folder(path.parent, owned=owned)
        content: Iterator[bytes] = entry.pieces()
        if entry.name == f"{CONFIG}/{ENV}":
            text = b"".join(content).decode(errors="replace")
            content = iter([sources.moved(text).encode()])
        with path.open("wb") as file:
            path.chmod(0o600)
            for piece in content:
                file.write(piece)
        if self.account is not None and owned:
            self.account.give(path)

    def _folder(self, folder: Path, *, owned: bool) -> None:
        if folder.is_dir():
            return
        self._folder(folder.parent, owned=owned)
        folder.mkdir(mode=0o700)
        if self.account is not None and owned:
            self.account.give(folder)

    async def put_kept(self, url: str) -> int:
        """Put back what Redis kept."""
        return await copies.put(url, b"".join(self.kept).splitlines())


class _Ahead:
    """Runs a generator in a thread, some pieces ahead of who takes them."""

    def __init__(self, source: Any) -> None:
        self._source, self._stopped = source, threading.Event()
        self._queue = queue.Queue[Any](AHEAD)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    async def pieces(self) -> AsyncIterator[bytes]:
        while (found := await asyncio.to_thread(self._queue.get)) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def stop(self) -> None:
        self._stopped.set()
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def _run(self) -> None:
        try:
            for piece in self._source():
                if not self._put(piece):
                    return
            self._put(None)
        except (AIStackError, OSError) as error:
            self._put(error)

    def _put(self, found: Any) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._queue.put(found, timeout=0.2)
                return True
        return False


async def queue_reindex(url: str) -> str:
    """Have the worker write the vector index anew, from the vectors in the database; the run."""
    database = await open_database(url, connections=2)
    try:
        async with database.transaction(DEFAULT_PROJECT) as tx:
            id = await runs.insert(tx, Principal(), "reindex", {"fresh": False})
            await jobs.defer(tx, id, "reindex")
        return str(id)
    finally:
        await database.aclose()
