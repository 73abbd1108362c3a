"""Makes a backup: one snapshot of the database, and what lies beside it, in one pass."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from ai_stack import __version__
from ai_stack.caches import copies
from ai_stack.database import dumps
from ai_stack.database.dumps import Snapshot
from ai_stack.disk import sync
from ai_stack.errors import StackError, StorageFull
from ai_stack.services.backup import (
    CONFIG,
    DATABASE,
    KEPT,
    SUFFIX,
    Header,
    Manifest,
    Progress,
    bundle,
    silent,
    sources,
)
from ai_stack.services.backup.ages import read_recipients
from ai_stack.services.backup.bundle import Writer
from ai_stack.settings import Settings
from ai_stack.supervisor import programs

LEFT_OUT = (
    "cache: it fills again",
    "vector index: it is written anew from the database, without embedding again",
    "models: they are fetched or converted again",
    "exports, logs and backups",
)
WITHOUT_SECRETS = (
    "It is not encrypted, so it holds no secrets: elsewhere API keys, logins and passwords in "
    "the settings are to be given anew. AI_STACK_BACKUP_RECIPIENTS encrypts backups."
)
SEALED = "It holds sealed values, which open only with the master key that it lacks: keep {folder}."
APART = (
    "It holds sealed values, which open only with the master key. That does not lie in {folder}, "
    "so no backup holds it: keep it apart."
)
UNREAD = "It lacks what the user that made it may not read: {paths}."
WHOLE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that is complete on its disk."""

    path: Path
    size_bytes: int
    took_s: float
    manifest: Manifest


async def create(settings: Settings, told: Progress = silent) -> Made:
    """Back up the stack of these settings, whether it runs or not.

    Raises StackError, StorageFull or DatabaseUnavailable; a backup that fails leaves no file.
    """
    recipients, began, now = read_recipients(settings.backup_recipients), time.monotonic(), _now()
    async with sources.servers(settings) as servers, dumps.snapshot(servers.owner) as moment:
        with _placed(settings, now) as (file, path):
            job = _Creation(settings, servers, moment, recipients, told)
            manifest = await job.write(file, now)
    return Made(path, path.stat().st_size, round(time.monotonic() - began, 2), manifest)


def _now() -> datetime:
    return datetime.now(UTC).astimezone()


@contextmanager
def _placed(settings: Settings, now: datetime) -> Iterator[tuple[BinaryIO, Path]]:
    """A file that takes its name when it is complete, and is removed when it is not."""
    folder = settings.backups / f"{now:%Y%m%d}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _give(folder)
        path = _free(folder, f"{now:%H%M%S}")
        draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        with _private(draft) as file:
            yield file, path
        _give(draft)
        draft.rename(path)
        sync(folder)
    except OSError as error:
        raise _failure(settings.backups, error) from error
    finally:
        with suppress(OSError, UnboundLocalError):
            draft.unlink(missing_ok=True)


def _failure(folder: Path, error: OSError) -> StackError | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"The disk of {folder} is full: the backup was not made.")
    return StackError(f"The backup cannot be written to {folder}: {error.strerror or error}.")


def _free(folder: Path, name: str) -> Path:
    """The path of a name, with a number where there was a backup in this second already."""
    path, number = folder / f"{name}{SUFFIX}", 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}{SUFFIX}"
    return path


def _private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def _give(path: Path) -> None:
    """Have what root makes belong to the owner of the folder, whose worker prunes it."""
    owner = path.parent.stat()
    if os.getuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


@dataclass(frozen=True, slots=True)
class _Creation:
    """One backup while it is made."""

    settings: Settings
    servers: sources.Servers
    moment: Snapshot
    recipients: Sequence[Any]
    told: Progress
    unread: list[str] = field(default_factory=list)

    async def write(self, file: BinaryIO, now: datetime) -> Manifest:
        header = self._header(now)
        async with _created(file, header, self.recipients, int(now.timestamp())) as writer:
            await asyncio.to_thread(self._files, writer)
            await self._kept(writer)
            await self._database(writer)
            manifest = self._manifest(header, writer)
            await asyncio.to_thread(writer.manifest, manifest)
        return manifest

    def _header(self, now: datetime) -> Header:
        moment, encrypted = self.moment, bool(self.recipients)
        at = now.astimezone(UTC).isoformat(timespec="microseconds")
        return Header(at, __version__, moment.revision, moment.major, encrypted)

    def _files(self, writer: Writer) -> None:
        try:
            text = sources.environment(self.settings, secrets=bool(self.recipients))
        except PermissionError as error:
            text = None
            self.unread.append(str(error.filename))
        if text is not None:
            writer.add(f"{CONFIG}/{sources.ENV}", text.encode())
        secrets = sources.secrets(self.settings) if self.recipients else ()
        for number, (name, path) in enumerate((*secrets, *sources.files(self.settings)), 1):
            try:
                _add(writer, name, path)
            except PermissionError:
                self.unread.append(str(path))
            self.told("files", number, None)

    async def _kept(self, writer: Writer) -> None:
        pieces = writer.pieces(KEPT)
        async for lines in copies.copy(self.servers.kept):
            await asyncio.to_thread(pieces.write, lines)
        await asyncio.to_thread(pieces.close)

    async def _database(self, writer: Writer) -> None:
        pieces, done = writer.pieces(DATABASE), 0
        url, moment = self.servers.owner, self.moment
        tools = programs.folder_for(moment.major, url)
        async for data in programs.dump(tools, url, moment.name):
            await asyncio.to_thread(pieces.write, data)
            done += len(data)
            self.told("database", done, None)
        await asyncio.to_thread(pieces.close)

    def _manifest(self, header: Header, writer: Writer) -> Manifest:
        moment = self.moment
        return Manifest(
            header=header,
            database_bytes=moment.size_bytes,
            timescale=moment.timescale,
            counts=moment.counts,
            models=tuple(moment.models),
            probes=tuple(moment.probes),
            shares=writer.tallies.shares(),
            left_out=LEFT_OUT,
            warnings=self._warnings(),
        )

    def _warnings(self) -> tuple[str, ...]:
        unread = [UNREAD.format(paths=", ".join(self.unread[:10]))] if self.unread else []
        plain = [] if self.recipients else [WITHOUT_SECRETS]
        return (*plain, *self._sealed(), *unread)

    def _sealed(self) -> Iterator[str]:
        """Where the master key is to be found, where it is needed and this backup lacks it."""
        if not self.moment.sealed:
            return
        master, folder = self.settings.master_file.resolve(), self.settings.secrets
        held = {path.resolve() for _, path in sources.secrets(self.settings)}
        if master not in held:
            yield APART.format(folder=folder)
        elif not self.recipients:
            yield SEALED.format(folder=folder)


@asynccontextmanager
async def _created(
    file: BinaryIO, header: Header, recipients: Sequence[Any], at: int
) -> AsyncIterator[Writer]:
    with bundle.create(file, header, recipients, at) as writer:
        yield writer


def _add(writer: Writer, name: str, path: Path) -> None:
    """Add a file as it is now; one that is gone by now is not there to be added."""
    with suppress(FileNotFoundError), path.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        if size > WHOLE_BYTES:
            writer.copy(name, source, size)
        else:
            writer.add(name, source.read())
