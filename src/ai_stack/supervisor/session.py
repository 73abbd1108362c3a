"""One run of the stack on its data folder, from the checks before anything is started."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from ai_stack.settings import SUPERVISED, Settings, environment_of, plain_environment
from ai_stack.settings.exposure import check_exposure
from ai_stack.supervisor import Line, Part, folder, parts, swap
from ai_stack.supervisor.account import Account, find_account, needed_paths
from ai_stack.supervisor.child import Launcher
from ai_stack.supervisor.supervisor import Supervisor
from ai_stack.tls import open_certificate

Describe = Callable[[Settings, Account, Mapping[str, str]], list[Part]]


async def run(
    settings: Settings,
    say: Line,
    attend: Callable[[Supervisor], None],
    describe: Describe = parts.describe,
    server: swap.Server | None = None,
) -> bool:
    """Run the stack until it is stopped; True when it is to be started anew.

    `attend` receives the supervisor before it starts; `server` is that of the database, for a
    restore that was broken off. Raises AlreadyRunning, StackError with
    what is wrong and what to do, and StartFailed with the parts that did not start.
    """
    check_exposure(settings, has_credentials=False)  # nothing runs yet that could tell of any
    open_certificate(settings)
    data = settings.data_dir.absolute()
    settings = settings.model_copy(update={"data_dir": data})
    folder.make(data)
    with folder.lock(data):
        for told in await swap.settle(data, server):
            say(told)
        folder.check_layout(data)
        folder.check_space(data)
        folder.check_port(settings.host, settings.port)
        account = find_account(settings.run_as, needed_paths(data, *_models_elsewhere(settings)))
        folder.make_runtime(settings.runtime, account)
        folder.fill(data, account)
        described = describe(settings, account, environment_of(settings))
        supervisor = _build(settings, account, say, described)
        attend(supervisor)
        served = asyncio.create_task(_once_served(supervisor, data))
        try:
            await supervisor.run()
        finally:
            served.cancel()
        return supervisor.again


async def _once_served(supervisor: Supervisor, data: Path) -> None:
    await supervisor.healthy.wait()
    swap.answered(data)


def _models_elsewhere(settings: Settings) -> list[Path]:
    """The file that llama.cpp is to serve, where it is named by its path."""
    named = Path(settings.llama_cpp_default_model or "").expanduser()
    return [named] if named.is_file() else []


def _build(settings: Settings, account: Account, say: Line, described: list[Part]) -> Supervisor:
    data = settings.data_dir
    base = {**plain_environment(), "HOME": str(data), SUPERVISED: str(data)}
    return Supervisor(
        described,
        Launcher(account, data, base),
        data=data,
        runtime=settings.runtime,
        url=settings.gateway_url,
        say=say,
    )
