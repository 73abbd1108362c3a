"""Restores a backup: everything is checked, then built beside what is there, then swapped."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.database import dumps, replacing
from ai_stack.errors import Conflict, StackError, Unavailable
from ai_stack.services.backup import Progress, silent
from ai_stack.services.backup.building import Build, Plan, embedded, plan, queue_reindex
from ai_stack.services.backup.checking import Checked, check
from ai_stack.services.backup.sources import Servers, servers_of
from ai_stack.settings import Settings
from ai_stack.supervisor import control, folder, programs, scratch, swap
from ai_stack.supervisor.account import Account
from ai_stack.supervisor.swap import STAGING, Swap

ROOM_BYTES = 300 << 20
STOP_S, INDEX_S, LOOK_S = 180.0, 3600.0, 0.1
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Wish:
    """How to restore: `replace` a server's data, `keep` what is replaced."""

    replace: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it."""

    bundle: Path
    revision: str
    documents: int
    reindexed: str
    notes: tuple[str, ...]
    took_s: float


async def restore(
    settings: Settings,
    path: Path,
    identities: Sequence[Any],
    wish: Wish | None = None,
    told: Progress = silent,
) -> Restored:
    """Put the stack of these settings into the state of a backup.

    Nothing is touched before the bundle is known to be whole, of a version that is known, and
    opened by the key. The old data stay in force until the new have been built and checked; a
    stack that runs goes on until then, and starts again with the new.
    """
    began, wish = time.monotonic(), wish or Wish()
    checked = await check(path, identities, told)
    data = settings.data_dir.absolute()
    settings = settings.model_copy(update={"data_dir": data})
    await _refuse(settings, checked, wish)
    account = scratch.account_of(settings)
    folder.make(data)
    with swap.only_one(data):
        _settle(data)
        job = _Restoration(settings, checked, identities, account, wish, told)
        revision, run, notes = await job.run()
    counts = checked.manifest.counts
    took = round(time.monotonic() - began, 2)
    return Restored(path, revision, counts.get("aidb.documents", 0), run, notes, took)


async def _refuse(settings: Settings, checked: Checked, wish: Wish) -> None:
    """Raise for what can be known beforehand to end badly."""
    manifest, data = checked.manifest, settings.data_dir
    place = next(p for p in (data, *data.parents) if p.exists())
    needed = manifest.database_bytes + checked.files_bytes + ROOM_BYTES
    free = shutil.disk_usage(place).free
    if settings.database is None and free < needed:
        raise StackError(
            f"The disk of {data} has {free >> 20} MiB free, and the restored data need about "
            f"{needed >> 20} MiB beside the old. Nothing was touched."
        )
    if (data / "layout.json").exists():
        folder.check_layout(data)
    if settings.database is not None and not wish.replace:
        await _refuse_filled(servers_of(settings).owner)


async def _refuse_filled(url: str) -> None:
    if not await dumps.is_empty(url):
        raise Conflict(
            "The database that the settings name has data: --replace restores beside them and "
            "puts the restored in their place. Nothing was touched."
        )


def _settle(data: Path) -> None:
    """Finish what an earlier restore left, unless a stack runs on it; keep what never served."""
    found = swap.read(data)
    if found is None:
        return
    if found.state == "swapped":
        raise StackError(
            f"The data of {found.bundle} were restored and have not served yet: start the stack "
            "by `ai-stack up`, and then restore again. Nothing was touched."
        )
    if folder.holder(data) is None:
        with folder.lock(data):
            swap.settle(data, own=True)


@dataclass(frozen=True, slots=True)
class _Restoration:
    """One restore, from a checked bundle to a stack that serves it."""

    settings: Settings
    checked: Checked
    identities: Sequence[Any]
    account: Account
    wish: Wish
    told: Progress

    @property
    def data(self) -> Path:
        return self.settings.data_dir

    async def run(self) -> tuple[str, str, tuple[str, ...]]:
        """The revision, the run that writes the index, and what is worth saying."""
        planned = plan(self.settings, self.checked)
        work = swap.begin(self.data, self.checked.path.name, planned.items)
        try:
            revision, run = await self._build(planned)
            was_running = await self._halt()
            with folder.lock(self.data):
                folder.check_layout(self.data)
                work = swap.commit(self.data, work)
        except BaseException:
            self._undo(work)
            raise
        if was_running or embedded(self.settings):
            await self._serve(work, was_running, run)
        self._finish(work)
        return revision, run, planned.notes

    def _undo(self, work: Swap) -> None:
        found = swap.read(self.data)
        if found is not None and found.state == "building":
            swap.finish(self.data, work)

    async def _build(self, planned: Plan) -> tuple[str, str]:
        build = Build(self.checked, self.identities, self.account, self.told)
        async with AsyncExitStack() as exits:
            found = await exits.enter_async_context(self._servers())
            await build.files(planned.files)
            await build.put_kept(found.kept)
            if self.settings.database is None:
                revision = await build.database(found.owner)
            else:
                revision = await self._at_server(build, found.owner)
            needs_index = self.settings.vectors != "pgvector:"
            run = await queue_reindex(found) if needs_index else ""
        return revision, run

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[Servers]:
        """The servers to restore into: those that the supervisor keeps, on new folders."""
        staging = self.data / STAGING
        scratch.make_folders(staging, self.account, embedded(self.settings))
        names = [n for n in scratch.SERVERS if n in (*embedded(self.settings), "roles")]
        if names == ["roles"]:
            yield servers_of(self.settings)
            return
        apart = self.settings.model_copy(update={"data_dir": staging, "backup_wal": False})
        async with scratch.servers(apart, self.account, names) as running:
            yield servers_of(running)

    async def _at_server(self, build: Build, url: str) -> str:
        """Fill the database of a server, or one beside it that takes its place."""
        if await dumps.is_empty(url):
            try:
                return await build.database(url)
            except BaseException:
                await replacing.empty(url)
                raise
        beside = await replacing.make(url)
        try:
            revision = await build.database(beside)
            await replacing.replace(url)
        except BaseException:
            await replacing.drop(url, replacing.RESTORING)
            raise
        if not self.wish.keep:
            await replacing.drop(url, replacing.REPLACED)
        return revision

    async def _halt(self) -> bool:
        """Stop the stack where it runs; whether it did."""
        if folder.holder(self.data) is None:
            return False
        self.told("stop", 0, None)
        await control.ask_stop(self.settings.runtime)
        await _until(lambda: folder.holder(self.data) is None, STOP_S)
        return True

    async def _serve(self, work: Swap, was_running: bool, run: str) -> None:
        """Start the stack on the new data; where it does not answer, the old come back."""
        self.told("start", 0, None)
        said = await programs.verb("up", "--detach")
        if said:
            await self._halt()
            with folder.lock(self.data):
                swap.revert(self.data, work)
            if was_running:
                await programs.verb("up", "--detach")
            raise StackError(f"The restored stack did not start, so the old is back: {said}")
        if run:
            await self._indexed(run)
        if not was_running:
            await self._halt()

    async def _indexed(self, run: str) -> None:
        """Wait until the index is written, which the worker does."""
        deadline = time.monotonic() + INDEX_S
        while (status := await dumps.run_status(servers_of(self.settings).owner, run)) not in ENDED:
            self.told("index", 0, None)
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(LOOK_S)
        if status != "succeeded":
            raise StackError(f"The data are restored, but the index is not: run {run} {status}.")

    def _finish(self, work: Swap) -> None:
        if self.wish.keep and (self.data / swap.REPLACED).exists():
            kept = self.data / f"{swap.REPLACED}-{int(time.time())}"
            (self.data / swap.REPLACED).rename(kept)
        swap.finish(self.data, work)


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable("The stack does not stop; nothing was touched.")
        await asyncio.sleep(LOOK_S)
