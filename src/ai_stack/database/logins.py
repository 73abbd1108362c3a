"""Logins as rows: what a browser or a shell holds, kept as a hash."""

from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from ai_stack.database import Database, Transaction

Kind: TypeAlias = Literal["browser", "shell"]


async def insert(
    tx: Transaction,
    hash: bytes,
    user_id: UUID,
    *,
    kind: Kind,
    issuer: str | None,
    lasts: timedelta,
    generation: int | None,
) -> bool:
    """Add a login of an active user; False for one who is gone or suspended, or has another
    password since the generation that is given."""
    done = await tx.execute(
        "INSERT INTO logins (hash, user_id, kind, issuer, expires_at)"
        " SELECT %(hash)s, id, %(kind)s, %(issuer)s, now() + %(lasts)s FROM users"
        " WHERE id = %(user)s AND state = 'active'"
        " AND (%(generation)s::int IS NULL OR generation = %(generation)s)"
        " FOR SHARE",  # until this is over nobody ends all logins of this user
        {
            "hash": hash,
            "user": user_id,
            "kind": kind,
            "issuer": issuer,
            "lasts": lasts,
            "generation": generation,
        },
    )
    return done.rowcount == 1


async def find(database: Database, hash: bytes) -> tuple[UUID, datetime] | None:
    """Whose login it is and when it ends."""
    async with database.control() as tx:
        row = await tx.row(
            "SELECT user_id, expires_at FROM logins WHERE hash = %(hash)s", {"hash": hash}
        )
    return None if row is None else (row[0], row[1])


async def delete(tx: Transaction, hash: bytes) -> UUID | None:
    """End one login; whose it was. Nothing is announced where there was none."""
    found = await tx.row("SELECT user_id FROM logins WHERE hash = %(hash)s", {"hash": hash})
    if found is None:
        return None
    await tx.execute("DELETE FROM logins WHERE hash = %(hash)s", {"hash": hash})
    return UUID(str(found[0]))


async def delete_all(tx: Transaction, user_id: UUID) -> int:
    """End every login of a user, and those that shells are about to get; how many there were."""
    await tx.execute("DELETE FROM devices WHERE user_id = %(id)s", {"id": user_id})
    done = await tx.execute("DELETE FROM logins WHERE user_id = %(id)s", {"id": user_id})
    return done.rowcount


async def sweep(database: Database) -> int:
    """Forget logins that are over; nobody's rights change by it."""
    async with database.control() as tx:
        found = await tx.row("SELECT EXISTS (SELECT FROM logins WHERE expires_at < now())")
        if found is None or not found[0]:
            return 0
        return (await tx.execute("DELETE FROM logins WHERE expires_at < now()")).rowcount
