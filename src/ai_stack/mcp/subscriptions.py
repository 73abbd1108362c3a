"""Subscriptions over MCP (`subscriptions/listen`): documents that change, and lists that do.

The gateway holds no state, and any gateway may make a change, so each subscription looks for
itself: at the project's generation, which every change to the index renews, and only where that
has changed at the documents that it follows.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, SubscriptionsListenRequestParams, SubscriptionsListenResult

from ai_stack.alongside import is_cancelled
from ai_stack.errors import AIStackError, NotFound
from ai_stack.mcp.calls import Call, Context
from ai_stack.mcp.resources import DOCUMENTS, document_id
from ai_stack.models.departure import Departure

LOOK_S = 1.0
MOST, MOST_URIS = 256, 64

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Subscriptions:
    """The streams that are open at this gateway."""

    look_s: float = LOOK_S
    open: int = 0

    async def listen(
        self, context: Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Tell of changes until the client leaves or the server ends."""
        uris = params.notifications.resource_subscriptions or ()
        if self.open >= MOST or len(uris) > MOST_URIS:
            told = f"At most {MOST_URIS} resources in one subscription, and {MOST} subscriptions."
            raise MCPError(INVALID_PARAMS, told)
        call, bus = Call.of(context), InMemorySubscriptionBus()
        handler, closing = ListenHandler(bus), call.closing or Departure()
        watcher = asyncio.create_task(self._watch(Watched(call, uris), bus))
        self.open += 1
        closing.add(handler.close)
        try:
            return await handler(context, params)
        finally:
            self.open -= 1
            closing.remove(handler.close)
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _watch(self, watched: "Watched", bus: InMemorySubscriptionBus) -> None:
        while not is_cancelled():
            try:
                for event in await watched.changes():
                    await bus.publish(event)
            except AIStackError as error:
                log.debug("a subscription waits: %s", error.message)
            await asyncio.sleep(self.look_s)


@dataclass(slots=True)
class Watched:
    """What one subscription follows, and how it was when it was last seen."""

    call: Call
    uris: Sequence[str]
    _generation: str | None = None
    _skills: Any = None
    _versions: dict[str, int | None] = field(default_factory=dict)

    async def changes(self) -> list[ServerEvent]:
        """What has changed since this was last asked; nothing the first time."""
        return [*await self._of_skills(), *await self._of_documents()]

    async def _of_skills(self) -> Iterable[ServerEvent]:
        now = [(skill.name, skill.ready) for skill in await self.call.skills()]
        before, self._skills = self._skills, now
        if before is None or before == self._skills:
            return ()
        return (ToolsListChanged(), PromptsListChanged(), ResourcesListChanged())

    async def _of_documents(self) -> list[ServerEvent]:
        before = self._generation
        self._generation = await self.call.stack.search.generation(self.call.principal)
        if before is not None and before == self._generation:
            return []
        changed: list[ServerEvent] = [] if before is None else [ResourcesListChanged()]
        ours = [uri for uri in self.uris if uri.startswith(DOCUMENTS)]
        return changed + [ResourceUpdated(uri) for uri in ours if await self._has_changed(uri)]

    async def _has_changed(self, uri: str) -> bool:
        known = uri in self._versions
        before, now = self._versions.get(uri), await self._version(uri)
        self._versions[uri] = now
        return known and before != now

    async def _version(self, uri: str) -> int | None:
        try:
            document = await self.call.stack.documents.get(self.call.principal, document_id(uri))
        except NotFound:
            return None
        return document.version
