"""Projects and their members as rows, and what erases a project from every table."""

import json
from dataclasses import dataclass
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy.exc import IntegrityError

from ai_stack.database import BE_CONTROL, ROLE, Database, Record, Transaction
from ai_stack.errors import AlreadyExists
from ai_stack.models.principals import Role
from ai_stack.models.projects import Member, Project
from ai_stack.models.trust import Limits, State

BE_GATEWAY = (
    f"SELECT set_config('role', '{ROLE}', true), set_config('search_path', 'tenant, public', true)"
)
TAKEN = "There is a project of this name."
COLUMNS = "p.id, p.name, p.state, p.limits, p.created_at, m.role"
SOURCE = "projects p LEFT JOIN members m ON m.project_id = p.id AND m.user_id = %(user)s"
# A key shows its own projects, of a user's those that the user is a member of; a user shows theirs.
SEEN = """
(%(all)s OR p.id = %(own)s OR (
  CASE WHEN %(key)s::text IS NULL THEN true ELSE EXISTS (SELECT FROM key_projects k
    WHERE k.key_id = %(key)s AND k.project_id = p.id) END
  AND CASE WHEN %(user)s::uuid IS NULL THEN %(key)s::text IS NOT NULL ELSE m.role IS NOT NULL
    OR EXISTS (SELECT FROM users u WHERE u.id = %(user)s AND u.is_admin) END))"""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose projects are looked for: all, or those of a key, of a user, and the one at hand."""

    everything: bool
    own: UUID
    key_id: str | None
    user_id: UUID | None

    def bound(self) -> dict[str, object]:
        found = {"all": self.everything, "own": self.own, "key": self.key_id}
        return {**found, "user": self.user_id}


async def insert(tx: Transaction, id: UUID, name: str, limits: Limits) -> None:
    """Add a project; AlreadyExists."""
    await _write(
        tx,
        "INSERT INTO projects (id, name, limits) VALUES (%(id)s, %(name)s, %(limits)s::jsonb)",
        {"id": id, "name": name, "limits": json.dumps(dict(limits))},
    )


async def page(tx: Transaction, viewer: Viewer, *, after: UUID | None, limit: int) -> list[Project]:
    """Projects that the viewer sees, in the order of their making."""
    rows = await tx.rows(
        f"SELECT {COLUMNS} FROM {SOURCE} WHERE {SEEN}"
        " AND (%(after)s::uuid IS NULL OR p.id > %(after)s) ORDER BY p.id LIMIT %(limit)s",
        {**viewer.bound(), "after": after, "limit": limit},
    )
    return [_project(row) for row in rows]


async def find(
    tx: Transaction, viewer: Viewer, called: str, *, to_change: bool = False
) -> tuple[Project, UUID | None] | None:
    """A project by its id, else by its name, and the run that deletes it.

    `to_change` keeps others from changing it meanwhile.
    """
    lock = "FOR UPDATE OF p" if to_change else ""
    rows = await tx.rows(
        f"SELECT {COLUMNS}, p.deletion FROM {SOURCE} WHERE {SEEN}"
        " AND (p.id::text = lower(%(called)s) OR p.name = %(called)s)"
        f" ORDER BY p.name = %(called)s LIMIT 1 {lock}",
        {**viewer.bound(), "called": called},
    )
    return None if not rows else (_project(rows[0]), rows[0][6])


async def change(tx: Transaction, id: UUID, name: str, state: State, limits: Limits) -> None:
    """Give a project another name, state or limits; AlreadyExists."""
    await _write(
        tx,
        "UPDATE projects SET name = %(name)s, state = %(state)s, limits = %(limits)s::jsonb"
        " WHERE id = %(id)s",
        {"id": id, "name": name, "state": state, "limits": json.dumps(dict(limits))},
    )


async def begin_deletion(tx: Transaction, id: UUID, run_id: UUID) -> None:
    """Shut a project for good, and note which run deletes it."""
    await tx.execute(
        "UPDATE projects SET state = 'deleting', deletion = %(run)s WHERE id = %(id)s",
        {"id": id, "run": run_id},
    )


async def be_gateway(tx: Transaction) -> None:
    """Take the gateway's role for the rest of a unit of work: projects' own rows, again."""
    await tx.execute(BE_GATEWAY)


async def be_control(tx: Transaction) -> None:
    """Take the role for what belongs to no project, for the rest of a unit of work."""
    await tx.execute(BE_CONTROL)


async def state_of(database: Database, id: UUID) -> State | None:
    """The state of a project; None for one that is gone."""
    async with database.control() as tx:
        row = await tx.row("SELECT state FROM projects WHERE id = %(id)s", {"id": id})
    return None if row is None else row[0]


async def members(
    tx: Transaction, project_id: UUID, *, after: UUID | None, limit: int
) -> list[Member]:
    rows = await tx.rows(
        "SELECT u.id, u.name, m.role FROM members m JOIN users u ON u.id = m.user_id"
        " WHERE m.project_id = %(project)s AND (%(after)s::uuid IS NULL OR u.id > %(after)s)"
        " ORDER BY u.id LIMIT %(limit)s",
        {"project": project_id, "after": after, "limit": limit},
    )
    return [Member(*row) for row in rows]


async def member(tx: Transaction, project_id: UUID, called: str) -> tuple[Member, bool] | None:
    """A member by the user's id or name, and whether it is the only owner."""
    row = await tx.row(
        "SELECT u.id, u.name, m.role, m.role = 'owner' AND NOT EXISTS (SELECT FROM members o"
        "  WHERE o.project_id = m.project_id AND o.role = 'owner' AND o.user_id <> u.id)"
        " FROM members m JOIN users u ON u.id = m.user_id WHERE m.project_id = %(project)s"
        " AND (u.id::text = %(called)s OR u.name = %(called)s)",
        {"project": project_id, "called": called},
    )
    return None if row is None else (Member(*row[:3]), row[3])


async def put_member(tx: Transaction, project_id: UUID, user_id: UUID, role: Role) -> None:
    """Have a user be a member, or give a member another role."""
    await tx.execute(
        "INSERT INTO members (project_id, user_id, role) VALUES (%(project)s, %(user)s, %(role)s)"
        " ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role",
        {"project": project_id, "user": user_id, "role": role},
    )


async def delete_member(tx: Transaction, project_id: UUID, user_id: UUID) -> None:
    await tx.execute(
        "DELETE FROM members WHERE project_id = %(project)s AND user_id = %(user)s",
        {"project": project_id, "user": user_id},
    )


async def delete_keys(tx: Transaction, project_id: UUID) -> int:
    """Delete the keys that are for this project and no other; how many there were."""
    done = await tx.execute(
        "DELETE FROM keys k WHERE EXISTS (SELECT FROM key_projects p"
        "  WHERE p.key_id = k.id AND p.project_id = %(project)s)"
        " AND NOT EXISTS (SELECT FROM key_projects p"
        "  WHERE p.key_id = k.id AND p.project_id <> %(project)s)",
        {"project": project_id},
    )
    return done.rowcount


async def delete(tx: Transaction, id: UUID) -> None:
    """Delete a project that is being deleted, and what the audit log tells of it but who did what
    and when."""
    await tx.execute("SELECT control.redact(%(id)s)", {"id": id})
    await tx.execute("DELETE FROM projects WHERE id = %(id)s AND state = 'deleting'", {"id": id})


async def traces(tx: Transaction) -> list[str]:
    """Where rows of the project may lie, in the order in which they are deleted."""
    return [row[0] for row in await tx.rows("SELECT place FROM tenant.traces()")]


async def erase(tx: Transaction, place: str, batch: int) -> int:
    """Delete up to `batch` of the project's rows in one place; how many there were."""
    row = await tx.row(
        "SELECT tenant.erase(%(place)s, %(batch)s)", {"place": place, "batch": batch}
    )
    return 0 if row is None else int(row[0])


async def being_indexed(tx: Transaction) -> bool:
    """Whether somebody follows a change of the project at this moment."""
    row = await tx.row("SELECT EXISTS (SELECT FROM dirty WHERE due > now() AND error IS NULL)")
    return row is not None and bool(row[0])


async def open_runs(tx: Transaction) -> list[tuple[UUID, bool]]:
    """Runs of the project that have not ended, and whether a worker does them now."""
    rows = await tx.rows(
        "SELECT id, status = 'running' FROM runs"
        " WHERE status IN ('queued', 'running', 'waiting') AND kind <> 'upload'"
    )
    return [(row[0], row[1]) for row in rows]


async def _write(tx: Transaction, sql: str, parameters: dict[str, object]) -> None:
    try:
        await tx.execute(sql, parameters)
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation):
            raise AlreadyExists(TAKEN) from error
        raise


def _project(row: Record) -> Project:
    return Project(*row[:6])
