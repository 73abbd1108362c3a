"""Ends work under way whose principal may not do it any more."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ai_stack.alongside import is_cancelled
from ai_stack.errors import AIStackError, Forbidden, Unauthenticated

LOOK_S = 5.0

log = logging.getLogger(__name__)


@asynccontextmanager
async def while_allowed(check: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Around work that goes on for as long as `check` raises neither Unauthenticated nor Forbidden.

    Then it is cancelled, and that is raised. Another failure of the check says nothing.
    """
    work, refusals = asyncio.current_task(), list[AIStackError]()
    assert work is not None
    watching = asyncio.create_task(_watch(check, work, refusals))
    try:
        yield
    except asyncio.CancelledError:
        if refusals and work.uncancel() == 0:
            raise refusals[0] from None
        raise
    finally:
        watching.cancel()


async def _watch(
    check: Callable[[], Awaitable[object]],
    work: asyncio.Task[object],
    refusals: list[AIStackError],
) -> None:
    while not is_cancelled():
        await asyncio.sleep(LOOK_S)
        try:
            await check()
        except (Unauthenticated, Forbidden) as refusal:
            refusals.append(refusal)
            work.cancel()
            return
        except AIStackError as error:
            log.debug("rights cannot be looked up: %s", error.message)
