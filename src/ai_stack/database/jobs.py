"""The queue of coarse jobs: Procrastinate's tables in schema `jobs`, one job for each run.

A job is written in the transaction of its run, so neither is there without the other. The job
only says that the run is to go on; what is to be done stands with the run.
"""

from uuid import UUID

from ai_stack.database import Database, Transaction

TASK = "run"
QUEUE = "runs"
SEARCH_PATH = "SET LOCAL search_path = tenant, public, jobs"
STALLED_S = 10.0


async def defer(tx: Transaction, run_id: UUID, lock: str | None = None, queue: str = QUEUE) -> None:
    """Have a worker take up the run when this transaction is committed.

    Each queue has its own room in a worker, so that what somebody waits for is not kept by long
    imports. Of several with the same `lock` one is done at a time, in their order; the others wait
    here and not in a worker.
    """
    await tx.execute(SEARCH_PATH)
    await tx.execute(
        "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(%(queue)s, %(task)s, 0, %(lock)s, %(run)s,"
        " jsonb_build_object('run', %(run)s::text), NULL)]::procrastinate_job_to_defer_v1[])",
        {"queue": queue, "task": TASK, "run": str(run_id), "lock": lock or str(run_id)},
    )


async def cancel(tx: Transaction, run_id: UUID) -> None:
    """Drop the waiting job of a run, or have the worker that does it cancel it."""
    await tx.execute(SEARCH_PATH)
    await tx.execute(
        "SELECT procrastinate_cancel_job_v1(id, true, true) FROM procrastinate_jobs"
        " WHERE args ->> 'run' = %(run)s AND status IN ('todo', 'doing')",
        {"run": str(run_id)},
    )


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
