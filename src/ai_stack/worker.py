"""The background process: follows changes into the index and does the runs."""

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterable

from ai_stack.alongside import is_cancelled
from ai_stack.errors import AIStackError
from ai_stack.models.principals import Principal
from ai_stack.services.agent import QUEUE as AGENTS
from ai_stack.services.indexing import Indexing
from ai_stack.services.runs import CONCURRENCY
from ai_stack.services.skills import QUEUE as SKILLS
from ai_stack.services.telling import Telling
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack

LANES = (None, None, 32 << 10)  # so that a note does not wait behind books
IDLE_S = 0.5
AGENT_RUNS = 4
ANEW_S = 10.0

log = logging.getLogger(__name__)


async def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; what is under way is finished or left to be taken up again."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with open_stack(settings, watched=False) as stack:
        _announce(settings)
        await _until(stop, _duties(stack))


def _duties(stack: Stack) -> list[Coroutine[None, None, None]]:
    """All that goes on without end."""
    from ai_stack.database import job_worker  # noqa: PLC0415 (importing it runs a program)

    return [
        *(_follow(stack.indexing, longest) for longest in LANES),
        job_worker.work(stack.database, stack.runs.execute, CONCURRENCY),
        job_worker.work(stack.database, stack.runs.execute, stack.settings.skill_runs, SKILLS),
        job_worker.work(stack.database, stack.runs.execute, AGENT_RUNS, AGENTS),
        stack.retention.keep_sweeping(),
        *([_back_up(stack)] if stack.settings.backup_daily else []),
        Telling(stack.database, stack.scrape).keep_telling(),
        *([stack.watching.watch()] if stack.settings.watch_imports else []),
        _use_configured_model(stack),
    ]


def _back_up(stack: Stack) -> Coroutine[None, None, None]:
    from ai_stack.services.backup.schedule import Daily  # noqa: PLC0415 (its tests go without it)

    return Daily(stack.settings, stack.database).keep_making()


async def _until(stop: asyncio.Event, duties: Iterable[Coroutine[None, None, None]]) -> None:
    """Do duties until told to stop; one that ends by itself ends the process, to be restarted."""
    tasks = [asyncio.create_task(duty) for duty in duties]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for waiting in (stopped, *tasks):
            waiting.cancel()
        await asyncio.gather(stopped, *tasks, return_exceptions=True)


def _announce(settings: Settings) -> None:
    """Tell the supervisor that the work has begun."""
    if settings.runtime_dir is not None:
        (settings.runtime_dir / "worker.ready").touch()


async def _use_configured_model(stack: Stack) -> None:
    """Begin the migration to a model that the settings name newly; tried until it can be told."""
    while True:
        try:
            run = await stack.maintenance.start_pending(stack.runs, Principal())
        except AIStackError as error:
            log.warning("whether the embedding model changes is not known: %s", error.message)
            await asyncio.sleep(ANEW_S)
        else:
            break
    if run is not None:
        log.info("documents are being embedded by %s: run %s", run.input["model"], run.id)
    await asyncio.Event().wait()


async def _follow(indexing: Indexing, longest: int | None) -> None:
    """One lane: while it waits for the embedder, another reads and writes."""
    while not is_cancelled():
        try:
            done = await indexing.apply_due(longest=longest)
        except AIStackError as error:
            log.warning("changes cannot be followed now: %s", error.message)
            done = 0
        if not done:
            await asyncio.sleep(IDLE_S)
