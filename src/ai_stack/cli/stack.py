"""The verbs that start, stop and watch the stack; they talk to its supervisor."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from ai_stack.cli import optimizer
from ai_stack.cli.display import Display, LiveDisplay, PlainDisplay, table_of
from ai_stack.cli.options import Workers
from ai_stack.errors import AIStackError, StackError, Unavailable
from ai_stack.settings import Settings, load_settings
from ai_stack.supervisor import StackStatus, control, folder, session, swap
from ai_stack.supervisor.supervisor import StartFailed, Supervisor

NOT_RUNNING = 3
STOP_S = 180.0
WAIT_S = 0.05

app = typer.Typer(add_completion=False, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when healthy.")] = False,
    as_json: AsJson = False,
    workers: Workers = None,
    background: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start the stack and keep it running; twice is harmless."""
    settings = load_settings()
    told: tuple[str, ...] = ()  # beside the settings, which a restart reads anew
    if workers is not None:
        told = ("--workers", str(workers))
        settings = settings.model_copy(update={"workers": workers})
    if folder.holder(settings.data_dir) is not None:
        _show_running(settings, as_json)
    elif detach:
        _detach(settings, as_json, told)
        if as_json:
            _show_running(settings, as_json)
    else:
        _foreground(settings, background, told)


@app.command()
def down() -> None:
    """Stop the stack; its data stays."""
    settings = load_settings()
    if folder.holder(settings.data_dir) is None:
        print("The stack is not running.")
        return
    _ask(control.ask_stop(settings.runtime), settings)
    _await(lambda: folder.holder(settings.data_dir) is None, settings)
    print("The stack has stopped.")


@app.command()
def restart(
    part: Annotated[str | None, typer.Argument(help="One part, as `status` names it.")] = None,
) -> None:
    """Restart one part; without one the whole stack, which reads its settings anew."""
    settings = load_settings()
    before = _status(settings)
    if before is None:
        raise StackError("The stack is not running; start it with `ai-stack up`.")
    _ask(control.ask_restart(settings.runtime, part), settings)
    if part is None:
        _await(lambda: _healthy_since(settings, before.started_at), settings)
    print(f"{part or 'The stack'} runs again.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show each part; exits 0 when healthy, 1 when not, 3 when the stack is not running."""
    settings = load_settings()
    found = _status(settings)
    if found is None:
        print(json.dumps({"running": False}) if as_json else "The stack is not running.")
        raise typer.Exit(NOT_RUNNING)
    _print(found, as_json)
    raise typer.Exit(0 if found.healthy else 1)


def _foreground(settings: Settings, background: bool, told: Sequence[str]) -> None:
    display: Display = LiveDisplay() if _interactive() and not background else PlainDisplay()
    try:
        again = asyncio.run(_session(settings, display, background))
    except folder.AlreadyRunning:
        _show_running(settings, as_json=False)
        return
    except StartFailed as failure:
        display.close()
        for line in (f"  {part.name} | {line}" for part in failure.parts for line in part.log):
            print(line, file=sys.stderr)
        raise
    finally:
        display.close()
    if again:
        options = (*told, *(("--background",) if background else ()))
        command = [sys.executable, "-m", "ai_stack", "up", *options]
        os.execv(sys.executable, command)  # noqa: S606 (itself, with the settings as they are now)


async def _session(settings: Settings, display: Display, background: bool) -> bool:
    tasks: list[asyncio.Task[None]] = []

    def attend(supervisor: Supervisor) -> None:
        tasks.append(asyncio.create_task(display.watch(supervisor)))
        tasks.append(asyncio.create_task(_once_healthy(supervisor, settings, display, background)))

    try:
        return await session.run(settings, display.say, attend, server=_broken_off(settings))
    finally:
        for task in tasks:
            task.cancel()


def _broken_off(settings: Settings) -> swap.Server | None:
    """The server of a restore that was broken off; what knows it is loaded for that alone."""
    if swap.read(settings.data_dir) is None:
        return None
    from ai_stack.services.backup.standby import standby_of  # noqa: PLC0415

    return standby_of(settings)


async def _once_healthy(
    supervisor: Supervisor, settings: Settings, display: Display, background: bool
) -> None:
    await supervisor.healthy.wait()
    optimizer.announce(settings, display.say)
    if background:
        _leave_terminal()


def _leave_terminal() -> None:
    """Close the pipe to the caller of `up --detach`, which ends its wait."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _detach(settings: Settings, quiet: bool, told: Sequence[str]) -> None:
    """Go on as a supervisor in a session of its own, and pass on its words until it is healthy."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os._exit(_become_background(settings, write, told))
    os.close(write)
    with os.fdopen(read) as said:
        for line in said:
            print(line, end="", file=sys.stderr if quiet else sys.stdout, flush=True)
    time.sleep(WAIT_S)
    ended, code = os.waitpid(child, os.WNOHANG)
    if ended:
        raise typer.Exit(os.waitstatus_to_exitcode(code))


def _become_background(settings: Settings, output: int, told: Sequence[str]) -> int:
    """In the forked child: leave the terminal, speak into the pipe, run to the end."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    try:
        _foreground(settings, True, told)
    except AIStackError as error:
        print(f"ai-stack: {error.message}", file=sys.stderr)
        return 1
    finally:
        sys.stdout.flush()
    return 0


def _status(settings: Settings) -> StackStatus | None:
    """What the supervisor answers; None when there is none."""
    deadline = time.monotonic() + control.ANSWER_S
    while folder.holder(settings.data_dir) is not None:
        try:
            return asyncio.run(control.ask_status(settings.runtime))
        except Unavailable:
            if time.monotonic() > deadline:
                raise StackError(_silent(settings)) from None
            time.sleep(WAIT_S)
    return None


def _silent(settings: Settings) -> str:
    pid = folder.holder(settings.data_dir)
    return (
        f"The supervisor (process {pid}) does not answer on {settings.runtime}; see "
        f"{settings.data_dir / 'logs' / 'supervisor.log'}. If it hangs, `kill -9 {pid}` ends it "
        "and all parts, and loses nothing."
    )


def _ask(call: Coroutine[None, None, None], settings: Settings) -> None:
    try:
        asyncio.run(call)
    except Unavailable:
        raise StackError(_silent(settings)) from None


def _await(condition: Callable[[], bool], settings: Settings) -> None:
    deadline = time.monotonic() + STOP_S
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(_silent(settings))
        time.sleep(WAIT_S)


def _healthy_since(settings: Settings, started_at: float) -> bool:
    try:
        found = asyncio.run(control.ask_status(settings.runtime))
    except Unavailable:
        return False
    return found.started_at != started_at and found.healthy


def _show_running(settings: Settings, as_json: bool) -> None:
    found = _status(settings)
    if found is None:
        raise StackError("The stack stopped just now; start it again with `ai-stack up`.")
    if not as_json:
        print(f"The stack is running already (process {found.pid}).")
    _print(found, as_json)


def _print(found: StackStatus, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"running": True, **asdict(found)}, indent=2))
    else:
        print(table_of(found))


def _interactive() -> bool:
    return sys.stdout.isatty() and os.isatty(0)
