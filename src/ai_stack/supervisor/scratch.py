"""Some of the parts, run for a while by a command: the servers of a backup or of a restore."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from ai_stack.errors import StackError
from ai_stack.settings import SUPERVISED, Settings, environment_of, plain_environment
from ai_stack.supervisor import Line, parts
from ai_stack.supervisor.account import Account, find_account, needed_paths
from ai_stack.supervisor.child import Launcher
from ai_stack.supervisor.supervisor import StartFailed, Supervisor

SERVERS = ("postgres", "roles", "redis-kept")


def account_of(settings: Settings) -> Account:
    """The user that the parts run as."""
    return find_account(settings.run_as, needed_paths(settings.data_dir))


@asynccontextmanager
async def servers(
    settings: Settings,
    account: Account,
    names: Collection[str] = SERVERS,
    say: Line = lambda text: None,
) -> AsyncIterator[Settings]:
    """Run the servers of a data folder that nobody else runs, until the context is left.

    Yields the settings with the addresses that they answer at. Their sockets lie in a folder of
    their own, so that they meet no stack that runs. StackError when they do not start.
    """
    runtime = Path(tempfile.mkdtemp(prefix="ai-stack-"))
    account.give(runtime)
    apart = settings.model_copy(update={"runtime_dir": runtime})
    (settings.data_dir / "logs").mkdir(mode=0o700, exist_ok=True)
    try:
        async with _running(apart, account, names, say):
            yield apart
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


def make_folders(data: Path, account: Account, names: Collection[str]) -> None:
    """A data folder with an empty folder for each of these."""
    data.mkdir(mode=0o700, exist_ok=True)
    account.give(data)
    for name in names:
        (data / name).mkdir(mode=0o700, exist_ok=True)
        account.give(data / name)


@asynccontextmanager
async def _running(
    settings: Settings, account: Account, names: Collection[str], say: Line
) -> AsyncIterator[None]:
    supervisor = _supervisor(settings, account, names, say)
    task = asyncio.create_task(supervisor.run())
    healthy = asyncio.create_task(supervisor.healthy.wait())
    try:
        await asyncio.wait([task, healthy], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await _told(task)
        yield
    finally:
        healthy.cancel()
        supervisor.stop()
        await asyncio.wait([task])
        _forget_signals()


def _supervisor(
    settings: Settings, account: Account, names: Collection[str], say: Line
) -> Supervisor:
    described = parts.describe(settings, account, environment_of(settings))
    base = {**plain_environment(), "HOME": str(settings.data_dir)}
    base[SUPERVISED] = str(settings.data_dir)
    return Supervisor(
        [part for part in described if part.name in names],
        Launcher(account, settings.data_dir, base),
        data=settings.data_dir,
        runtime=settings.runtime,
        url="",
        say=say,
    )


async def _told(task: "asyncio.Task[None]") -> None:
    """Raise what the servers failed by."""
    try:
        await task
    except StartFailed as failure:
        last = [f"{part.name} | {line}" for part in failure.parts for line in part.log[-3:]]
        raise StackError("\n".join([failure.message, *last])) from failure
    raise StackError("The servers were stopped before they answered.")


def _forget_signals() -> None:
    """Let a signal end this process again, as before the servers were run."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.remove_signal_handler(number)
