"""The log of what changed who may do what: rows are added and read, never changed."""

import json
from collections.abc import Mapping
from uuid import UUID

from ai_stack.database import Transaction
from ai_stack.models.trust import AuditEntry


async def record(
    tx: Transaction,
    actor: str,
    action: str,
    subject: str,
    *,
    project_id: UUID | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Add an entry in the unit of work of what it tells of."""
    tx.is_audited = True
    await tx.execute(
        "INSERT INTO audit (id, actor, action, subject, project_id, detail)"
        " VALUES (%(id)s, %(actor)s, %(action)s, %(subject)s, %(project)s, %(detail)s::jsonb)",
        {
            "id": tx.new_id(),
            "actor": actor,
            "action": action,
            "subject": subject,
            "project": project_id,
            "detail": json.dumps(detail or {}, default=str),
        },
    )


async def page(
    tx: Transaction, project: UUID | None, *, before: UUID | None, limit: int
) -> list[AuditEntry]:
    """Entries of a project, or of all; the newest first, from before one of them on."""
    rows = await tx.rows(
        "SELECT id, at, actor, action, subject, project_id, detail FROM audit"
        " WHERE (%(project)s::uuid IS NULL OR project_id = %(project)s)"
        " AND (%(before)s::uuid IS NULL OR id < %(before)s) ORDER BY id DESC LIMIT %(limit)s",
        {"project": project, "before": before, "limit": limit},
    )
    return [AuditEntry(*row) for row in rows]
