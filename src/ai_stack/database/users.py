"""Users as rows: their names, their passwords' hashes, and who they are at issuers."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ai_stack.database import Database, Record, Transaction
from ai_stack.models.trust import User, UserState

LISTED = """
SELECT u.id, u.name, u.is_admin, u.state, u.password IS NOT NULL, u.temporary, u.created_at,
       (SELECT coalesce(array_agg(i.issuer ORDER BY 1), '{}') FROM identities i
        WHERE i.user_id = u.id)
FROM users u"""


@dataclass(frozen=True, slots=True, repr=False)
class Known:
    """What a login by password is checked against."""

    id: UUID
    name: str
    password: str | None
    temporary: bool
    state: UserState
    generation: int


async def insert(
    tx: Transaction, id: UUID, name: str, password: str | None, *, is_admin: bool, temporary: bool
) -> bool:
    """Add a user; False where the name is taken."""
    done = await tx.execute(
        "INSERT INTO users (id, name, password, is_admin, temporary) VALUES"
        " (%(id)s, %(name)s, %(password)s, %(admin)s, %(temporary)s) ON CONFLICT DO NOTHING",
        {
            "id": id,
            "name": name,
            "password": password,
            "admin": is_admin,
            "temporary": temporary,
        },
    )
    return done.rowcount == 1


async def insert_identity(tx: Transaction, issuer: str, subject: str, user_id: UUID) -> bool:
    """Have an issuer's subject be a user; False where it is one already."""
    done = await tx.execute(
        "INSERT INTO identities VALUES (%(issuer)s, %(subject)s, %(user)s) ON CONFLICT DO NOTHING",
        {"issuer": issuer, "subject": subject, "user": user_id},
    )
    return done.rowcount == 1


async def user_of(database: Database, issuer: str, subject: str) -> UUID | None:
    """The user that an issuer's subject is."""
    async with database.control() as tx:
        row = await tx.row(
            "SELECT user_id FROM identities WHERE issuer = %(issuer)s AND subject = %(subject)s",
            {"issuer": issuer, "subject": subject},
        )
    return None if row is None else UUID(str(row[0]))


async def generation(database: Database, id: UUID) -> int | None:
    """Which of the user's tokens count: those of this generation."""
    async with database.control() as tx:
        row = await tx.row("SELECT generation FROM users WHERE id = %(id)s", {"id": id})
    return None if row is None else int(row[0])


async def user(tx: Transaction, called: str, *, to_change: bool = False) -> User | None:
    """A user by name or id; `to_change` keeps others from changing it meanwhile."""
    lock = " FOR UPDATE OF u" if to_change else ""
    row = await tx.row(
        f"{LISTED} WHERE u.name = %(called)s OR u.id::text = %(called)s{lock}", {"called": called}
    )
    return None if row is None else _user(row)


async def users(tx: Transaction, *, after: UUID | None, limit: int) -> Sequence[User]:
    """Users in the order of their making."""
    rows = await tx.rows(
        f"{LISTED} WHERE %(after)s::uuid IS NULL OR u.id > %(after)s ORDER BY u.id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )
    return [_user(row) for row in rows]


async def by_name(database: Database, name: str) -> Known | None:
    """What a password for this name is checked against."""
    async with database.control() as tx:
        row = await tx.row(
            "SELECT id, name, password, temporary, state, generation FROM users"
            " WHERE name = %(name)s",
            {"name": name},
        )
    return None if row is None else Known(*row)


async def set_state(tx: Transaction, id: UUID, state: UserState) -> None:
    """Suspend a user or let one in again; tokens from before are refused."""
    await tx.execute(
        "UPDATE users SET state = %(state)s, generation = generation + 1 WHERE id = %(id)s",
        {"id": id, "state": state},
    )


async def set_admin(tx: Transaction, id: UUID, is_admin: bool) -> None:
    await tx.execute(
        "UPDATE users SET is_admin = %(admin)s WHERE id = %(id)s", {"id": id, "admin": is_admin}
    )


async def set_password(tx: Transaction, id: UUID, password: str, *, temporary: bool) -> None:
    """Set a password's hash; tokens from before are refused."""
    await tx.execute(
        "UPDATE users SET password = %(password)s, temporary = %(temporary)s,"
        " generation = generation + 1 WHERE id = %(id)s",
        {"id": id, "password": password, "temporary": temporary},
    )


async def replace_password(tx: Transaction, id: UUID, old: str, new: str) -> bool:
    """Put another hash in an old one's place; False where that was changed or lost meanwhile."""
    done = await tx.execute(
        "UPDATE users SET password = %(new)s, temporary = false, generation = generation + 1"
        " WHERE id = %(id)s AND password = %(old)s AND state = 'active'",
        {"id": id, "old": old, "new": new},
    )
    return done.rowcount == 1


async def rehash(database: Database, id: UUID, old: str, new: str) -> None:
    """Another hash of the same password, unless that was changed meanwhile."""
    async with database.control() as tx:
        await tx.execute(
            "UPDATE users SET password = %(new)s WHERE id = %(id)s AND password = %(old)s",
            {"id": id, "old": old, "new": new},
        )


async def delete(tx: Transaction, id: UUID) -> None:
    """Remove a user with all keys, logins, memberships and identities."""
    await tx.execute("DELETE FROM users WHERE id = %(id)s", {"id": id})


def _user(row: Record) -> User:
    return User(*(*row[:7], tuple(row[7])))
