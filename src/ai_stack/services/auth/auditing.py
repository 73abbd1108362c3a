"""The log of what changed who may do what, for those who may see it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ai_stack.database import Database, audit
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.trust import AuditEntry
from ai_stack.services.cursors import cursor_of, position_of


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of entries; `next_cursor` is None on the last."""

    items: Sequence[AuditEntry]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Audit:
    """Entries of the caller's project; who may operate the stack sees those of all."""

    database: Database

    async def page(
        self, principal: Principal, *, limit: int = 100, cursor: str | None = None
    ) -> AuditPage:
        """Entries, the latest first. Raises InvalidCursor, and Forbidden without `manage`."""
        principal.require(Scope.MANAGE)
        before = None if cursor is None else position_of(cursor)
        project = None if principal.allows(Scope.OPERATE) else principal.project_id
        async with self.database.control() as tx:
            found = await audit.page(tx, project, before=before, limit=limit + 1)
        items = found[:limit]
        return AuditPage(items, cursor_of(items[-1].id) if len(found) > limit else None)
