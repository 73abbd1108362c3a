"""Ends an answer that lasts longer than the rights of whoever asked for it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

from starlette.types import Scope

from ai_stack.errors import AIStackError, Forbidden, Unauthenticated
from ai_stack.models.departure import Departure
from ai_stack.models.principals import Principal
from ai_stack.stack import Stack

LOOK_S = 2.0


class Standing:
    """Looks at one stream's caller from time to time; `end` ends the stream."""

    def __init__(self, scope: Mapping[str, object], end: Callable[[], object]) -> None:
        self.scope, self.end = cast(Scope, scope), end
        self._over = False
        self._asked: asyncio.Task[None] | None = None
        self._wait()

    def close(self) -> None:
        """The stream has ended."""
        self._over = True
        self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        departure: Departure | None = self.scope["state"].get("departure")
        if departure is None or not departure.gone:
            self._asked = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        allowed = await may_still(self.scope)
        if self._over:
            return
        if allowed:
            self._wait()
        else:
            self.end()


async def may_still(scope: Scope) -> bool:
    """Whether whoever was let in would be now, with no less; a stream of nobody's goes on.

    So does one whose caller cannot be looked up for the moment.
    """
    state = scope["state"]
    before: Principal | None = state.get("caller")
    if before is None:
        return True
    stack: Stack = state["stack"]
    try:
        now = await stack.identity.resolve(state["carried"])
    except (Unauthenticated, Forbidden):
        return False
    except AIStackError:
        return True
    return now.project_id == before.project_id and before.scopes <= now.scopes
