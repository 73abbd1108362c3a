"""Sign-ons that came back from an issuer, and what they make of who came, as rows."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from ai_stack.database import Transaction
from ai_stack.models.principals import Role


async def spend(tx: Transaction, hash: bytes, lasts: timedelta) -> bool:
    """Use up a sign-on that holds this long at most; False where that was done before."""
    await tx.execute("DELETE FROM sign_ons WHERE expires_at < now()")
    done = await tx.execute(
        "INSERT INTO sign_ons VALUES (%(hash)s, now() + %(lasts)s) ON CONFLICT DO NOTHING",
        {"hash": hash, "lasts": lasts},
    )
    return done.rowcount == 1


async def user_of(tx: Transaction, issuer: str, subject: str) -> UUID | None:
    """The user that an issuer's subject is."""
    row = await tx.row(
        "SELECT user_id FROM identities WHERE issuer = %(issuer)s AND subject = %(subject)s",
        {"issuer": issuer, "subject": subject},
    )
    return None if row is None else UUID(str(row[0]))


async def promote(tx: Transaction, user_id: UUID) -> bool:
    """Let a user operate the stack; False where that was so before."""
    done = await tx.execute(
        "UPDATE users SET is_admin = true WHERE id = %(id)s AND NOT is_admin", {"id": user_id}
    )
    return done.rowcount == 1


async def set_role(tx: Transaction, user_id: UUID, project: str, role: Role) -> bool:
    """Give a user a role in a project that is called so; False where nothing changes by it."""
    done = await tx.execute(
        "INSERT INTO members AS m (project_id, user_id, role)"
        " SELECT id, %(user)s, %(role)s FROM projects WHERE name = %(project)s"
        " ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role"
        " WHERE m.role <> excluded.role",
        {"user": user_id, "project": project, "role": role},
    )
    return done.rowcount == 1


async def remove_roles(tx: Transaction, user_id: UUID, projects: Collection[str]) -> int:
    """Take a user's roles in these projects away; how many there were."""
    if not projects:
        return 0
    done = await tx.execute(
        "DELETE FROM members m USING projects p WHERE p.id = m.project_id"
        " AND m.user_id = %(user)s AND p.name = ANY(%(projects)s)",
        {"user": user_id, "projects": list(projects)},
    )
    return done.rowcount
