"""Keys that sign tokens, as rows: sealed, one of them current."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ai_stack.database import Database, Transaction

VALID = "(retires_at IS NULL OR retires_at > now())"


@dataclass(frozen=True, slots=True, repr=False)
class SealedKey:
    """A signing key in its envelope; the current one is not to retire."""

    id: str
    sealed: bytes
    is_current: bool


async def keys(database: Database, id: str | None = None) -> Sequence[SealedKey]:
    """Those that verify still, or one of them; the current one first."""
    async with database.control() as tx:
        rows = await tx.rows(
            f"SELECT id, sealed, retires_at IS NULL FROM signing_keys WHERE {VALID}"
            " AND (%(id)s::text IS NULL OR id = %(id)s) ORDER BY retires_at DESC NULLS FIRST",
            {"id": id},
        )
    return [SealedKey(row[0], bytes(row[1]), row[2]) for row in rows]


async def insert(tx: Transaction, id: str, sealed: bytes) -> bool:
    """Make a key the current one; False where another gateway was first."""
    done = await tx.execute(
        "INSERT INTO signing_keys (id, sealed) VALUES (%(id)s, %(sealed)s) ON CONFLICT DO NOTHING",
        {"id": id, "sealed": sealed},
    )
    return done.rowcount == 1


async def retire(tx: Transaction, verifies: timedelta) -> None:
    """Have no current key; every key verifies so much longer at most."""
    await tx.execute(
        "UPDATE signing_keys SET retires_at = now() + %(for)s"
        " WHERE retires_at IS NULL OR retires_at > now() + %(for)s",
        {"for": verifies},
    )


async def sweep(database: Database) -> int:
    """Forget keys that verify nothing any more."""
    async with database.control() as tx:
        found = await tx.row(f"SELECT EXISTS (SELECT FROM signing_keys WHERE NOT {VALID})")
        if found is None or not found[0]:
            return 0
        return (await tx.execute(f"DELETE FROM signing_keys WHERE NOT {VALID}")).rowcount
