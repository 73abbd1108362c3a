"""The queue of coarse jobs: Procrastinate's tables in schema `jobs`, one job for each run.

A job is written in the transaction of its run, so neither is there without the other. The job
only says that the run is to go on; what is to be done stands with the run.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import procrastinate
from procrastinate.jobs import Job

from ai_stack.database import ROLE, Database, Transaction
from ai_stack.errors import AIStackError

TASK = "run"
QUEUE = "runs"
OPTIONS = f"-c role={ROLE} -c search_path=jobs,public -c timezone=UTC"
SEARCH_PATH = "SET LOCAL search_path = tenant, public, jobs"
HEARTBEAT_S, STALLED_S, RESCUE_S = 2.0, 10.0, 2.0
GRACE_S, POLL_S = 5.0, 1.0
LONGEST_DELAY_S = 60
RESTART_S = 1.0

Execute = Callable[[UUID, int], Awaitable[None]]

log = logging.getLogger(__name__)


async def defer(tx: Transaction, run_id: UUID) -> None:
    """Have a worker take up the run when this transaction is committed."""
    await tx.execute(SEARCH_PATH)
    await tx.execute(
        "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(%(queue)s, %(task)s, 0, %(run)s, %(run)s,"
        " jsonb_build_object('run', %(run)s::text), NULL)]::procrastinate_job_to_defer_v1[])",
        {"queue": QUEUE, "task": TASK, "run": str(run_id)},
    )


async def cancel(tx: Transaction, run_id: UUID) -> None:
    """Drop the waiting job of a run, or have the worker that does it cancel it."""
    await tx.execute(SEARCH_PATH)
    await tx.execute(
        "SELECT procrastinate_cancel_job_v1(id, true, true) FROM procrastinate_jobs"
        " WHERE lock = %(run)s AND status IN ('todo', 'doing')",
        {"run": str(run_id)},
    )


async def work(database: Database, execute: Execute, concurrency: int) -> None:
    """Do jobs until cancelled: what does not end within GRACE_S then is left to be resumed.

    `execute(run_id, tries)` returns when the run has ended and raises when it is to be tried
    again, after a delay that grows.
    """
    while True:
        try:
            await _work(database, execute, concurrency)
        except Exception as error:  # noqa: BLE001 (supervision: PostgreSQL may go and come)
            log.warning("jobs cannot be done now: %s", type(error).__name__)
        await asyncio.sleep(RESTART_S)


async def _work(database: Database, execute: Execute, concurrency: int) -> None:
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
    while True:
        try:
            if found := await rescue(database):
                log.warning("the workers of %d runs are gone: queued again", found)
        except AIStackError as error:
            log.warning("stalled jobs cannot be looked for: %s", error.message)
        await asyncio.sleep(RESCUE_S)


async def rescue(database: Database, silent_s: float = STALLED_S) -> int:
    """Queue again the jobs of workers that were silent for so long; how many there were."""
    async with database.transaction(None) as tx:
        await tx.execute(SEARCH_PATH)
        done = await tx.execute(
            "UPDATE procrastinate_jobs SET status = 'todo', abort_requested = false,"
            " attempts = attempts + 1, scheduled_at = now(), worker_id = NULL"
            " WHERE status = 'doing' AND (worker_id IS NULL OR worker_id IN"
            " (SELECT id FROM procrastinate_workers"
            "  WHERE last_heartbeat < now() - make_interval(secs => %(silent)s)))",
            {"silent": silent_s},
        )
        return done.rowcount


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
