"""Work without an end of its own, done for as long as something else lasts."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


def is_cancelled() -> bool:
    """Whether the task that asks has been told to end; work without an end asks it at each turn.

    A library may take a cancellation for a failure of its own, or lose it: psycopg's pool while
    connections break, Procrastinate's worker without PostgreSQL, `asyncio.wait_for` before 3.12.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@asynccontextmanager
async def alongside(*work: Coroutine[object, object, object]) -> AsyncIterator[None]:
    """Do all of it while the block lasts; when it is left, what is still done has been cancelled.

    What work fails with is nobody's: it sees to that itself.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
