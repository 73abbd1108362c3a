"""Credentials as rows, with all that decides what they allow at this moment."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from ai_stack.database import Database, Record, Transaction
from ai_stack.database.locks import connect
from ai_stack.models.principals import EVERY_SCOPE, Scope
from ai_stack.models.trust import Credential, Key, Membership, Owner

LOST = (psycopg.Error, OSError)
CHANNEL = "aidb_rights"
HEARD_S = 5.0
# A line that is dead is noticed while the server lives: else changes would go unheard for hours.
MORTAL = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
MORTAL |= {"tcp_user_timeout": 10_000}
# The first of a line of rotated keys has the limits of all: they are copied, and never changed.
KEY = """
WITH RECURSIVE makers AS (
  SELECT root, maker, limits, 0 AS above FROM keys WHERE id = %(id)s
  UNION ALL
  SELECT m.root, m.maker, m.limits, above + 1 FROM makers JOIN keys m ON m.id = makers.maker)
SELECT k.id, k.name, k.secret, k.scopes, k.toolsets,
       (SELECT jsonb_agg(jsonb_build_array('key:' || root, limits) ORDER BY above DESC)
        FROM makers), k.expires_at,
       k.revoked_at IS NOT NULL, u.id, u.name, u.is_admin, u.state,
       (SELECT jsonb_agg(jsonb_build_object('id', p.id, 'name', p.name, 'state', p.state,
                         'limits', p.limits, 'role', m.role) ORDER BY p.id)
        FROM key_projects kp JOIN projects p ON p.id = kp.project_id
        LEFT JOIN members m ON m.project_id = p.id AND m.user_id = k.user_id
        WHERE kp.key_id = k.id)
FROM keys k LEFT JOIN users u ON u.id = k.user_id WHERE k.id = %(id)s"""
USER = """
SELECT u.id, u.name, u.is_admin, u.state,
       (SELECT jsonb_agg(jsonb_build_object('id', p.id, 'name', p.name, 'state', p.state,
                         'limits', p.limits, 'role', m.role) ORDER BY p.id)
        FROM projects p LEFT JOIN members m ON m.project_id = p.id AND m.user_id = u.id
        WHERE u.is_admin OR m.role IS NOT NULL)
FROM users u WHERE u.id = %(id)s"""
LISTED = """
SELECT k.id, k.name, k.scopes,
       ARRAY(SELECT project_id FROM key_projects kp WHERE kp.key_id = k.id ORDER BY 1),
       k.toolsets, k.limits, k.user_id, k.created_at, k.created_by, k.expires_at, k.revoked_at,
       used.used_at, k.root, k.maker
FROM keys k LEFT JOIN key_uses used ON used.key_id = k.id"""
MADE = """
WITH RECURSIVE made AS (
  SELECT id, root FROM keys WHERE maker = %(root)s
  UNION
  SELECT k.id, k.root FROM made JOIN keys k ON k.maker = made.root)"""
LIVE = f"""{MADE}
SELECT EXISTS (SELECT FROM made JOIN keys k ON k.id = made.id WHERE k.revoked_at IS NULL)"""
REVOKE_MADE = f"""{MADE}
UPDATE keys k SET revoked_at = now() FROM made
WHERE k.id = made.id AND k.revoked_at IS NULL RETURNING k.id"""
DEPTH = """
WITH RECURSIVE makers AS (
  SELECT maker FROM keys WHERE id = %(id)s
  UNION ALL
  SELECT m.maker FROM makers JOIN keys m ON m.id = makers.maker)
SELECT count(*) FROM makers"""
REVOCATIONS = "SELECT pg_advisory_xact_lock(hashtext('aidb.revocations'))"
IN_PROJECT = """
 (%(project)s::uuid IS NULL OR EXISTS (SELECT FROM key_projects kp
  WHERE kp.key_id = k.id AND kp.project_id = %(project)s)
  AND NOT EXISTS (SELECT FROM key_projects kp
  WHERE kp.key_id = k.id AND kp.project_id <> %(project)s))"""


async def find_key(database: Database, id: str) -> Credential | None:
    """A key with its owner and projects."""
    async with database.control() as tx:
        row = await tx.row(KEY, {"id": id})
    return None if row is None else _credential(row)


async def find_user(database: Database, id: UUID) -> Credential | None:
    """What a user may do, in every project of theirs."""
    async with database.control() as tx:
        row = await tx.row(USER, {"id": id})
    if row is None:
        return None
    owner = Owner(*row[:4])
    return Credential(owner.name, EVERY_SCOPE, _memberships(row[4]), owner)


async def projects(database: Database) -> tuple[Membership, ...]:
    """All projects, for whoever may work in each."""
    async with database.control() as tx:
        rows = await tx.rows("SELECT id, name, state, limits FROM projects ORDER BY id")
    return tuple(Membership(id, name, state, None, limits) for id, name, state, limits in rows)


async def projects_named(tx: Transaction, wanted: Sequence[str]) -> dict[str, UUID]:
    """Projects by the name or id that they are called by here."""
    rows = await tx.rows(
        "SELECT w, p.id FROM unnest(%(wanted)s::text[]) AS w"
        " JOIN projects p ON p.id::text = w OR p.name = w"
        " ORDER BY p.id::text = w",
        {"wanted": list(wanted)},
    )
    return {name: id for name, id in rows}  # noqa: C416 (a Row is no tuple to mypy)


async def are_any(database: Database) -> bool:
    """Whether there is a user or a key, or ever was: removing the last one lets nobody in."""
    async with database.control() as tx:
        row = await tx.row(
            "SELECT EXISTS (SELECT FROM keys) OR EXISTS (SELECT FROM users)"
            " OR EXISTS (SELECT FROM audit WHERE action = 'user.create')"
        )
    assert row is not None
    return bool(row[0])


async def insert_key(tx: Transaction, key: Key, secret: bytes) -> None:
    await tx.execute(
        "INSERT INTO keys (id, secret, name, user_id, root, maker, scopes, toolsets, limits,"
        " created_by, expires_at) VALUES (%(id)s, %(secret)s, %(name)s, %(user)s, %(root)s,"
        " %(maker)s, %(scopes)s, %(toolsets)s, %(limits)s::jsonb, %(by)s, %(expires)s)",
        {
            "id": key.id,
            "secret": secret,
            "name": key.name,
            "user": key.user_id,
            "root": key.root,
            "maker": key.maker,
            "scopes": list(key.scopes),
            "toolsets": None if key.toolsets is None else list(key.toolsets),
            "limits": json.dumps(key.limits),
            "by": key.created_by,
            "expires": key.expires_at,
        },
    )
    await tx.execute(
        "INSERT INTO key_projects (key_id, project_id) SELECT %(id)s, unnest(%(projects)s::uuid[])",
        {"id": key.id, "projects": list(key.projects)},
    )


async def replace_secret(tx: Transaction, id: str, new_id: str, secret: bytes) -> None:
    """Give a key another id and secret; what had the old ones is refused from now on."""
    await tx.execute(
        "WITH moved AS (INSERT INTO keys (id, secret, name, user_id, root, maker, scopes,"
        " toolsets, limits, created_by, expires_at) SELECT %(new)s, %(secret)s, name, user_id,"
        " root, maker, scopes, toolsets, limits, created_by, expires_at"
        " FROM keys WHERE id = %(id)s RETURNING id)"
        " INSERT INTO key_projects SELECT moved.id, kp.project_id FROM moved, key_projects kp"
        " WHERE kp.key_id = %(id)s",
        {"id": id, "new": new_id, "secret": secret},
    )
    await revoke(tx, id)


async def lock(tx: Transaction, id: str) -> None:
    """Wait until nobody else changes a key, and let nobody before this unit of work is over."""
    await tx.execute("SELECT FROM keys WHERE id = %(id)s FOR UPDATE", {"id": id})


async def revoke(tx: Transaction, id: str) -> None:
    await tx.execute(
        "UPDATE keys SET revoked_at = now() WHERE id = %(id)s AND revoked_at IS NULL", {"id": id}
    )


async def revoke_one_at_a_time(tx: Transaction) -> None:
    """Wait for whoever revokes keys now: two who lock the same keys would wait for each other."""
    await tx.execute(REVOCATIONS)


async def revoke_made(tx: Transaction, root: str) -> list[str]:
    """Revoke what the keys of a root have made, and what that has made; the ids."""
    gone: list[str] = []
    # Again, since one may have made another, or been rotated, until its row was free.
    while (live := await tx.row(LIVE, {"root": root})) is not None and live[0]:
        gone += [row[0] for row in await tx.rows(REVOKE_MADE, {"root": root})]
    return gone


async def depth(tx: Transaction, id: str) -> int:
    """How many keys there are from one that somebody made down to this one."""
    row = await tx.row(DEPTH, {"id": id})
    assert row is not None
    return int(row[0])


async def key(tx: Transaction, id: str, project: UUID | None) -> Key | None:
    """A key for those who manage keys: one of a project and no other, or any."""
    row = await tx.row(
        f"{LISTED} WHERE k.id = %(id)s AND {IN_PROJECT}", {"id": id, "project": project}
    )
    return None if row is None else _key(row)


async def keys(
    tx: Transaction, project: UUID | None, *, after: str | None, limit: int
) -> list[Key]:
    """Keys in the order of their making; `after` is the id of the last one seen."""
    rows = await tx.rows(
        f"{LISTED} WHERE {IN_PROJECT} AND (%(after)s::text IS NULL OR (k.created_at, k.id) >"
        " (SELECT created_at, id FROM keys WHERE id = %(after)s))"
        " ORDER BY k.created_at, k.id LIMIT %(limit)s",
        {"project": project, "after": after, "limit": limit},
    )
    return [_key(row) for row in rows]


async def note_uses(database: Database, uses: Mapping[str, datetime]) -> None:
    """When each key was used last; one that is gone meanwhile is left out."""
    async with database.control() as tx:
        await tx.execute(
            "INSERT INTO key_uses SELECT u.id, u.at"
            " FROM unnest(%(ids)s::text[], %(times)s::timestamptz[]) AS u(id, at)"
            " JOIN keys ON keys.id = u.id"
            " ON CONFLICT (key_id) DO UPDATE SET used_at ="
            " greatest(key_uses.used_at, excluded.used_at)",
            {"ids": list(uses), "times": list(uses.values())},
        )


async def changes(database: Database) -> AsyncIterator[bool]:
    """True for each change of anybody's rights, and once at the beginning; False for a sign of
    life between them. Raises the driver's error when the connection is lost."""
    async with await connect(database, **MORTAL) as connection:
        database.liveness.add(connection)
        await connection.execute(f"LISTEN {CHANNEL}")
        yield True
        while True:
            changed = False
            async for _ in connection.notifies(timeout=HEARD_S, stop_after=1):
                changed = True
            if not changed:
                await connection.execute("SELECT 1")
            yield changed


def _credential(row: Record) -> Credential:
    owner = None if row[8] is None else Owner(*row[8:12])
    return Credential(
        name=f"key {row[0]}" if owner is None else owner.name,
        scopes=_scopes(row[3]),
        projects=_memberships(row[12]),
        owner=owner,
        key_id=row[0],
        secret=bytes(row[2]),
        toolsets=None if row[4] is None else frozenset(row[4]),
        limits=dict(row[5]),
        expires_at=row[6],
        revoked=row[7],
    )


def _memberships(found: Sequence[Mapping[str, Any]] | None) -> tuple[Membership, ...]:
    return tuple(
        Membership(UUID(one["id"]), one["name"], one["state"], one["role"], one["limits"])
        for one in found or ()
    )


def _scopes(names: Sequence[str]) -> frozenset[Scope]:
    """Those that this version knows: one that it does not know allows nothing."""
    return frozenset(Scope(name) for name in names if name in EVERY_SCOPE)


def _key(row: Record) -> Key:
    return Key(row[0], row[1], tuple(row[2]), tuple(row[3]), row[4] and tuple(row[4]), *row[5:14])
