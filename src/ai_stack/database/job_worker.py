"""Does the queue's jobs by Procrastinate, in the worker; the gateway goes without it.

Procrastinate runs a program while it is imported, so this module is imported where it is used.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import procrastinate
from procrastinate.jobs import Job

from ai_stack.alongside import is_cancelled
from ai_stack.database import ROLE, Database
from ai_stack.database.jobs import QUEUE, STALLED_S, TASK, rescue
from ai_stack.errors import AIStackError

OPTIONS = f"-c role={ROLE} -c search_path=jobs,public -c timezone=UTC"
HEARTBEAT_S, RESCUE_S = 2.0, 2.0
GRACE_S, POLL_S = 5.0, 1.0
LONGEST_DELAY_S = 60
RESTART_S = 1.0

Execute = Callable[[UUID, int], Awaitable[None]]

log = logging.getLogger(__name__)


async def work(database: Database, execute: Execute, concurrency: int, queue: str = QUEUE) -> None:
    """Do a queue's jobs until cancelled; what does not end within GRACE_S then is to be resumed.

    `execute(run_id, tries)` returns when the run has ended and raises when it is to be tried
    again, after a delay that grows.
    """
    while not is_cancelled():
        try:
            await _work(database, execute, concurrency, queue)
        except Exception as error:  # noqa: BLE001 (supervision: PostgreSQL may go and come)
            log.warning("jobs cannot be done now: %s", type(error).__name__)
        await asyncio.sleep(RESTART_S)


async def _work(database: Database, execute: Execute, concurrency: int, queue: str) -> None:
    connector = procrastinate.PsycopgConnector(
        conninfo=str(database.pool.conninfo),
        kwargs={"options": OPTIONS, "connect_timeout": 10},
        min_size=1,
        max_size=2,
        timeout=10,
    )
    app = procrastinate.App(connector=connector)

    @app.task(name=TASK, pass_context=True, retry=Backoff())
    async def run(context: procrastinate.JobContext, run: str) -> None:
        await execute(UUID(run), context.job.attempts)

    async with app.open_async():
        rescuer = asyncio.create_task(_rescue(database))
        try:
            await app.run_worker_async(
                queues=[queue],
                concurrency=concurrency,
                install_signal_handlers=False,
                shutdown_graceful_timeout=GRACE_S,
                delete_jobs="always",
                fetch_job_polling_interval=POLL_S,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALLED_S,
            )
        finally:
            rescuer.cancel()
            await asyncio.gather(rescuer, return_exceptions=True)


async def _rescue(database: Database) -> None:
    """Queue again, all the time, what workers were doing that have died."""
    while not is_cancelled():
        try:
            if found := await rescue(database):
                log.warning("the workers of %d runs are gone: queued again", found)
        except AIStackError as error:
            log.warning("stalled jobs cannot be looked for: %s", error.message)
        await asyncio.sleep(RESCUE_S)


class Backoff(procrastinate.BaseRetryStrategy):
    """Every failure is tried again: a run that is given up ends its job without one."""

    def get_retry_decision(
        self, *, exception: BaseException, job: Job
    ) -> procrastinate.RetryDecision:
        if isinstance(exception, AIStackError):
            delay = min(2 ** min(job.attempts, 10), LONGEST_DELAY_S)
        else:  # the worker stops: the next one goes on at once
            delay = 0
        return procrastinate.RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=delay))
