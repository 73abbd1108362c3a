"""The background process: follows changes into the index."""

import asyncio
import logging
import signal

from ai_stack.errors import AIStackError
from ai_stack.services.indexing import Indexing
from ai_stack.settings import Settings
from ai_stack.stack import open_stack

LANES = 2
IDLE_S = 0.5

log = logging.getLogger(__name__)


async def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; what is under way is finished or left to be taken up again."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with open_stack(settings) as stack:
        tasks = [asyncio.create_task(_follow(stack.indexing)) for _ in range(LANES)]
        _announce(settings)
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _announce(settings: Settings) -> None:
    """Tell the supervisor that the work has begun."""
    if settings.runtime_dir is not None:
        (settings.runtime_dir / "worker.ready").touch()


async def _follow(indexing: Indexing) -> None:
    """Two lanes: while one waits for the embedder, the other reads and writes."""
    while True:
        try:
            done = await indexing.apply_due()
        except AIStackError as error:
            log.warning("changes cannot be followed now: %s", error.message)
            done = 0
        if not done:
            await asyncio.sleep(IDLE_S)
