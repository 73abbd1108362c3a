"""One request as the parts of this face see it: who asks, the stack, and a way to tell progress."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mcp.server.context import ServerRequestContext
from starlette.requests import Request

from ai_stack.models.departure import Departure
from ai_stack.models.principals import Principal
from ai_stack.models.skills import Listed
from ai_stack.stack import Stack

Context = ServerRequestContext[Any, Any]
PAUSE_S = 0.25


@dataclass(slots=True)
class Call:
    """What the transport put into the request's state, and the SDK's own context."""

    context: Context
    state: Mapping[str, Any]
    _told_at: float = field(default=float("-inf"))

    @classmethod
    def of(cls, context: Context) -> "Call":
        request = cast(Request, context.request)
        return cls(context, request.scope["state"])

    @property
    def stack(self) -> Stack:
        return cast(Stack, self.state["stack"])

    @property
    def principal(self) -> Principal:
        return cast(Principal, self.state["principal"])

    @property
    def toolsets(self) -> list[str]:
        """The toolset of the path; where it names none, those of the key."""
        asked, own = str(self.state["toolset"]), self.principal.toolsets
        return [asked] if asked or own is None else sorted(own)

    @property
    def request_id(self) -> str:
        return str(self.state.get("request_id", ""))

    @property
    def departure(self) -> Departure | None:
        return self.state.get("departure")

    @property
    def closing(self) -> Departure | None:
        """The end of the server, where it tells."""
        return self.state.get("closing")

    async def skills(self) -> list[Listed]:
        """The skills that are whole, by name."""
        return [one for one in await self.stack.skills.items() if one.description]

    @property
    def is_followed(self) -> bool:
        """Whether the client wants to hear of progress."""
        return bool(self.context.meta and self.context.meta.get("progress_token") is not None)

    async def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far it is; told too often, most of it is left out."""
        now = time.monotonic()
        if self.is_followed and now - self._told_at >= PAUSE_S:
            self._told_at = now
            await self.context.session.report_progress(done, total, message or None)
