"""Restores a backup: everything is checked, then built beside what is there, then swapped."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ai_stack.database import dumps, replacing
from ai_stack.errors import AIStackError, Conflict, StackError, Unavailable
from ai_stack.services.backup import Progress, silent
from ai_stack.services.backup.building import Build, Plan, embedded, plan, queue_reindex
from ai_stack.services.backup.checking import Checked, check
from ai_stack.services.backup.sources import Servers, servers_of
from ai_stack.services.backup.standby import standby_of
from ai_stack.settings import Settings
from ai_stack.supervisor import control, folder, programs, scratch, swap
from ai_stack.supervisor.account import Account
from ai_stack.supervisor.swap import STAGING, Swap

ROOM_BYTES = 300 << 20
STOP_S, INDEX_S, LOOK_S = 180.0, 3600.0, 0.1
ENDED = ("succeeded", "failed", "cancelled")
UNTOUCHED = "The stack does not stop; nothing was touched."
STUCK = (
    "The restored stack did not start, and does not stop: end it, and start it again. The old data "
    "lie beside until the restored have answered."
)
SERVING = "The data are restored, and the stack serves them; it does not stop."
FILLED = (
    "The database that the settings name has data: --replace restores beside them and puts the "
    "restored in their place. Nothing was touched."
)


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
        await _settle(settings)
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
    server = None if wish.replace else standby_of(settings)
    if server is not None and not await dumps.is_empty(server.url):
        raise Conflict(FILLED)


async def _settle(settings: Settings) -> None:
    """Finish what an earlier restore left, unless a stack runs on it; keep what never served."""
    data = settings.data_dir
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
            await swap.settle(data, standby_of(settings), own=True)


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
        build = Build(self.checked, self.identities, self.account, self.told)
        work = swap.begin(self.data, await self._foreseen(planned))
        try:
            revision, run = await self._build(build, work, planned)
            was_running = await self._halt(UNTOUCHED)
        except BaseException:
            await self._undo()
            raise
        work = await self._commit(work, was_running)
        if was_running or embedded(self.settings):
            await self._serve(was_running, run)
        await swap.finish(self.data, swap.to(self.data, work, "served"), standby_of(self.settings))
        await self._put_kept(build)
        return revision, run, planned.notes

    async def _foreseen(self, planned: Plan) -> Swap:
        """What is to be written down. A database may have been filled since it was looked at."""
        foreseen = Swap(self.checked.path.name, "building", planned.items, "", keep=self.wish.keep)
        server = standby_of(self.settings)
        if server is None:
            return foreseen
        is_empty = await dumps.is_empty(server.url)
        if not is_empty and not self.wish.replace:
            raise Conflict(FILLED)
        return replace(foreseen, database=server.place, in_place=is_empty)

    async def _commit(self, work: Swap, was_running: bool) -> Swap:
        """Put the new in the place of the old; where that fails, all is as it was."""
        try:
            with folder.lock(self.data):
                try:
                    folder.check_layout(self.data)
                    return await swap.commit(self.data, work, standby_of(self.settings))
                except BaseException:
                    await self._undo()
                    raise
        except BaseException:
            if was_running:
                await programs.verb("up", "--detach")
            raise

    async def _undo(self) -> None:
        """Take back what was built, and what of it has been put in its place."""
        found, server = swap.read(self.data), standby_of(self.settings)
        if found is None:
            return
        if found.state == "building":
            await swap.finish(self.data, found, server)
        else:
            await swap.revert(self.data, found, server)
        if found.in_place and server is not None:
            await replacing.empty(server.url)

    async def _build(self, build: Build, work: Swap, planned: Plan) -> tuple[str, str]:
        async with AsyncExitStack() as exits:
            found = await exits.enter_async_context(self._servers())
            await build.files(planned.files)
            if self.settings.redis_kept is None:
                await build.put_kept(found.kept)
            url, gateway = found.owner, found.gateway
            if work.database and not work.in_place:
                url = await replacing.make(found.owner)
                gateway = replacing.named(gateway, replacing.name_of(url))
            revision = await build.database(url)
            needs_index = self.settings.vectors != "pgvector:"
            run = await queue_reindex(gateway) if needs_index else ""
        return revision, run

    async def _put_kept(self, build: Build) -> None:
        """Put back what a Redis of one's own kept: it has no other beside, so it comes last."""
        if self.settings.redis_kept is None:
            return
        try:
            await build.put_kept(self.settings.redis_kept)
        except AIStackError as error:
            message = f"The data are restored, but what Redis kept is not: {error.message}"
            raise StackError(message) from error

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

    async def _halt(self, otherwise: str) -> bool:
        """Stop the stack where it runs; whether it did. Unavailable where it does not stop."""
        if folder.holder(self.data) is None:
            return False
        self.told("stop", 0, None)
        try:
            await control.ask_stop(self.settings.runtime)
            await _until(lambda: folder.holder(self.data) is None, STOP_S)
        except Unavailable as error:
            raise Unavailable(otherwise) from error
        return True

    async def _serve(self, was_running: bool, run: str) -> None:
        """Start the stack on the new data; where it does not answer, the old come back."""
        self.told("start", 0, None)
        said = await programs.verb("up", "--detach")
        if said:
            await self._halt(STUCK)
            with folder.lock(self.data):
                await self._undo()
            if was_running:
                await programs.verb("up", "--detach")
            raise StackError(f"The restored stack did not start, so the old is back: {said}")
        if run:
            await self._indexed(run)
        if not was_running:
            await self._halt(SERVING)

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


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable
        await asyncio.sleep(LOOK_S)
