"""Data keys and the masters that wrap them, as rows; which project is sealed with which."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ai_stack.database import Transaction

CHANGES = "SELECT pg_advisory_xact_lock(hashtext('aidb.data_keys'))"


@dataclass(frozen=True, slots=True, repr=False)
class WrappedKey:
    """A data key as it is kept."""

    id: int
    master: str
    wrapped: bytes


@dataclass(frozen=True, slots=True, repr=False)
class UsedMaster:
    """A master that wraps keys, and those of how many projects."""

    id: str
    check_value: bytes
    projects: int


async def masters(tx: Transaction) -> list[UsedMaster]:
    """The masters that wrap any key now."""
    rows = await tx.rows(
        "SELECT m.id, m.check_value, count(DISTINCT k.project_id) FROM masters m"
        " JOIN data_keys k ON k.master = m.id GROUP BY m.id ORDER BY m.created_at"
    )
    return [UsedMaster(row[0], bytes(row[1]), row[2]) for row in rows]


async def add_master(tx: Transaction, id: str, check_value: bytes) -> None:
    await tx.execute(
        "INSERT INTO masters (id, check_value) VALUES (%(id)s, %(check)s) ON CONFLICT DO NOTHING",
        {"id": id, "check": check_value},
    )


async def own(tx: Transaction) -> WrappedKey | None:
    """The key of the stack's own secrets."""
    row = await tx.row("SELECT id, master, wrapped FROM data_keys WHERE project_id IS NULL")
    return None if row is None else WrappedKey(row[0], row[1], bytes(row[2]))


async def put_own(tx: Transaction, key: WrappedKey, *, instead_of: int | None) -> None:
    """Keep a key of the stack's own, unless another process has just done so."""
    await tx.execute(CHANGES)
    await tx.execute(
        "DELETE FROM data_keys WHERE project_id IS NULL AND id = %(id)s", {"id": instead_of}
    )
    await tx.execute(
        "INSERT INTO data_keys (id, master, wrapped) VALUES (%(id)s, %(master)s, %(wrapped)s)"
        " ON CONFLICT ((project_id IS NULL)) WHERE project_id IS NULL DO NOTHING",
        {"id": key.id, "master": key.master, "wrapped": key.wrapped},
    )


async def put(tx: Transaction, project_id: UUID, key: WrappedKey) -> None:
    """Seal what a project writes from now on with this key."""
    await tx.execute(CHANGES)
    given = {"id": key.id, "master": key.master, "wrapped": key.wrapped, "project": project_id}
    await tx.execute(
        "INSERT INTO data_keys (id, project_id, master, wrapped)"
        " VALUES (%(id)s, %(project)s, %(master)s, %(wrapped)s)",
        given,
    )
    await tx.execute(
        "INSERT INTO sealing (project_id, key_id) VALUES (%(project)s, %(id)s)"
        " ON CONFLICT (project_id) DO UPDATE SET key_id = excluded.key_id",
        given,
    )


async def clear(tx: Transaction, project_id: UUID) -> bool:
    """Write what a project writes in the clear from now on; whether it was sealed."""
    await tx.execute(CHANGES)
    done = await tx.execute("DELETE FROM sealing WHERE project_id = %(id)s", {"id": project_id})
    return done.rowcount == 1


async def active(tx: Transaction, project_id: UUID) -> tuple[int | None, str | None]:
    """(key, master) that a project's bodies are sealed with now."""
    row = await tx.row(
        "SELECT key_id, master FROM sealing s JOIN data_keys k ON k.id = s.key_id"
        " WHERE s.project_id = %(id)s",
        {"id": project_id},
    )
    return (None, None) if row is None else (row[0], row[1])


async def drop_others(tx: Transaction, project_id: UUID, key_id: int | None) -> int:
    """Forget all keys of a project but the one that it is sealed with, if that is still this one.

    How many there were.
    """
    await tx.execute(CHANGES)
    if (await active(tx, project_id))[0] != key_id:
        return 0
    done = await tx.execute(
        "DELETE FROM data_keys WHERE project_id = %(id)s AND id IS DISTINCT FROM %(key)s",
        {"id": project_id, "key": key_id},
    )
    return done.rowcount


async def locked(tx: Transaction) -> Sequence[WrappedKey]:
    """All keys, held until the unit of work ends, which no other may add to meanwhile."""
    await tx.execute(CHANGES)
    rows = await tx.rows("SELECT id, master, wrapped FROM data_keys ORDER BY id FOR UPDATE")
    return [WrappedKey(row[0], row[1], bytes(row[2])) for row in rows]


async def rewrap(tx: Transaction, keys: Sequence[WrappedKey]) -> None:
    """Put keys that are wrapped anew in the place of what they were, and forget other masters."""
    await tx.execute(
        "UPDATE data_keys k SET master = n.master, wrapped = n.wrapped FROM"
        " unnest(%(ids)s::int[], %(masters)s::text[], %(wrapped)s::bytea[])"
        " AS n(id, master, wrapped) WHERE k.id = n.id",
        {
            "ids": [key.id for key in keys],
            "masters": [key.master for key in keys],
            "wrapped": [key.wrapped for key in keys],
        },
    )
    await tx.execute(
        "DELETE FROM masters m WHERE NOT EXISTS (SELECT FROM data_keys k WHERE k.master = m.id)"
    )
