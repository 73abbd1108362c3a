"""Projects and their members: who works in which, with which role, within which limits."""

from dataclasses import dataclass, replace
from unicodedata import normalize
from uuid import UUID

from ai_stack.database import Database, Transaction, audit, runs, users
from ai_stack.database import projects as rows
from ai_stack.errors import Conflict, Forbidden, InvalidRequest, NotFound
from ai_stack.models.principals import DEFAULT_PROJECT, SCOPES_OF, Principal, Role, Scope
from ai_stack.models.projects import Member, MemberPage, Project, ProjectPage
from ai_stack.models.runs import Run
from ai_stack.models.trust import Limits, State, User
from ai_stack.services.auth.erasure import KIND
from ai_stack.services.cursors import cursor_of, position_of
from ai_stack.services.limits.rules import check_limits
from ai_stack.services.runs import Runs

LONGEST_NAME = 100
UNKNOWN = "There is no project of this name or id that is yours."
LAST = "A project keeps an owner: only who operates the stack removes the last one."
ALWAYS = "The default project is always there, and always open."
GOING = "This project is being deleted."


@dataclass(frozen=True, slots=True)
class Projects:
    """Projects are made, shut and deleted by who operates the stack; who manages one names it
    and says who its members are."""

    database: Database
    runs: Runs

    async def create(
        self, principal: Principal, name: str, limits: Limits, owner: str | None = None
    ) -> Project:
        """A new project, and the user who owns it, if one is named.

        Raises InvalidRequest, AlreadyExists, and NotFound for the owner; Forbidden for one who
        would be given more than the caller has.
        """
        principal.require(Scope.OPERATE)
        name = checked_name(name)
        check_limits(limits)
        if owner is not None:
            _check_role(principal, "owner")
        async with self.database.control() as tx:
            id = tx.new_id()
            await rows.insert(tx, id, name, limits)
            detail = {"name": name, "limits": dict(limits)}
            await audit.record(
                tx, principal.name, "project.create", str(id), project_id=id, detail=detail
            )
            if owner is not None:
                await _put(tx, principal, id, await _user(tx, owner), "owner")
            return (await _found(tx, principal, str(id)))[0]

    async def page(
        self, principal: Principal, *, limit: int = 100, cursor: str | None = None
    ) -> ProjectPage:
        """The projects that are the caller's, in the order of their making; all for who operates
        the stack. Raises InvalidCursor."""
        after = None if cursor is None else position_of(cursor)
        async with self.database.control() as tx:
            found = await rows.page(tx, _viewer(principal), after=after, limit=limit + 1)
        items = found[:limit]
        return ProjectPage(items, cursor_of(items[-1].id) if len(found) > limit else None)

    async def get(self, principal: Principal, called: str) -> Project:
        """One project by its id or name, and how far its deletion is; NotFound."""
        async with self.database.control() as tx:
            project, deletion = await _found(tx, principal, called)
        return project if deletion is None else await self._told(project, deletion)

    async def change(
        self,
        principal: Principal,
        called: str,
        *,
        name: str | None = None,
        limits: Limits | None = None,
    ) -> Project:
        """Give a project another name, or other limits in place of all that it has.

        Raises NotFound, Forbidden, InvalidRequest, AlreadyExists, and Conflict for one that is
        being deleted.
        """
        new_name = None if name is None else checked_name(name)
        if limits is not None:
            principal.require(Scope.OPERATE)  # or a project would limit itself as it likes
            check_limits(limits)
        async with self.database.control() as tx:
            old = await _managed(tx, principal, called, to_change=True)
            new = replace(
                old,
                name=old.name if new_name is None else new_name,
                limits=old.limits if limits is None else limits,
            )
            await rows.change(tx, old.id, new.name, new.state, new.limits)
            await _record_change(tx, principal, old, new)
        return new

    async def set_state(self, principal: Principal, called: str, state: State) -> Project:
        """Shut a project, so that nobody works in it, or open it again; twice is harmless.

        Raises NotFound; Conflict for the default project and one that is being deleted.
        """
        principal.require(Scope.OPERATE)
        async with self.database.control() as tx:
            old = await _managed(tx, principal, called, to_change=True)
            if old.id == DEFAULT_PROJECT and state != "active":
                raise Conflict(ALWAYS)
            if old.state != state:
                await rows.change(tx, old.id, old.name, state, old.limits)
                action = "project.suspend" if state == "suspended" else "project.resume"
                await audit.record(tx, principal.name, action, str(old.id), project_id=old.id)
        return replace(old, state=state)

    async def delete(self, principal: Principal, called: str) -> Run:
        """Shut a project for good and begin to remove every trace of it: a run.

        Asked again it answers the same run, begun anew where that was given up. Raises NotFound,
        and Conflict for the default project.
        """
        principal.require(Scope.OPERATE)
        async with self.database.transaction(DEFAULT_PROJECT) as tx:
            await rows.be_control(tx)
            project, deletion = await _found(tx, principal, called, to_change=True)
            if project.id == DEFAULT_PROJECT:
                raise Conflict(ALWAYS)
            if deletion is None or await self._is_forgotten(tx, deletion):
                deletion = await self._begin(tx, principal, project)
        return await self._going_on(principal, deletion)

    async def _is_forgotten(self, tx: Transaction, run_id: UUID) -> bool:
        """Whether a run that was given up has been swept meanwhile."""
        await rows.be_gateway(tx)
        return await runs.find(tx, run_id) is None

    async def _begin(self, tx: Transaction, principal: Principal, project: Project) -> UUID:
        """The run is the stack's own: it goes on whatever becomes of who asked for it."""
        await rows.be_gateway(tx)
        run_id = await self.runs.enqueue(tx, _own(principal), KIND, {"project": str(project.id)})
        await rows.be_control(tx)
        await rows.begin_deletion(tx, project.id, run_id)
        detail = {"name": project.name, "run": run_id}
        await audit.record(
            tx,
            principal.name,
            "project.delete",
            str(project.id),
            project_id=project.id,
            detail=detail,
        )
        return run_id

    async def _going_on(self, principal: Principal, run_id: UUID) -> Run:
        run = await self.runs.get(_own(principal), run_id)
        if run.status in ("failed", "cancelled"):
            return await self.runs.retry(_own(principal), run_id)
        return run

    async def _told(self, project: Project, deletion: UUID) -> Project:
        try:
            run = await self.runs.get(Principal(DEFAULT_PROJECT), deletion)
        except NotFound:
            return project
        return replace(project, deletion=run)

    async def members(
        self, principal: Principal, called: str, *, limit: int = 100, cursor: str | None = None
    ) -> MemberPage:
        """The members of a project. Raises NotFound, Forbidden, InvalidCursor."""
        after = None if cursor is None else position_of(cursor)
        async with self.database.control() as tx:
            project = await _managed(tx, principal, called)
            found = await rows.members(tx, project.id, after=after, limit=limit + 1)
        items = found[:limit]
        return MemberPage(items, cursor_of(items[-1].user_id) if len(found) > limit else None)

    async def put_member(self, principal: Principal, called: str, user: str, role: Role) -> Member:
        """Have a user be a member of a project, or give a member another role.

        Raises NotFound for the project or the user; Forbidden for a role that may do more than
        the caller; Conflict where the last owner would be none.
        """
        async with self.database.control() as tx:
            project = await _managed(tx, principal, called, to_change=True)
            _check_role(principal, role)
            found = await rows.member(tx, project.id, user)
            if found is not None and role != "owner":
                _check_owner(principal, last=found[1])
            return await _put(tx, principal, project.id, await _user(tx, user), role)

    async def remove_member(self, principal: Principal, called: str, user: str) -> None:
        """Take a user out of a project. Raises NotFound, and Conflict for the last owner."""
        async with self.database.control() as tx:
            project = await _managed(tx, principal, called, to_change=True)
            found = await rows.member(tx, project.id, user)
            if found is None:
                raise NotFound("This user is no member of the project.")
            member, last = found
            _check_owner(principal, last=last)
            await rows.delete_member(tx, project.id, member.user_id)
            await _record_member(tx, principal, project.id, "member.remove", member)


def checked_name(name: str) -> str:
    """A project's name in Unicode's composed form; InvalidRequest for what cannot be one."""
    name = normalize("NFC", name)
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise InvalidRequest(
            f"A project's name has 1 to {LONGEST_NAME} printable characters, and no space around.",
            fields={"name": "cannot be one"},
        )
    if _is_id(name):
        raise InvalidRequest(
            "A project's name cannot look like an id.", fields={"name": "looks like an id"}
        )
    return name


def _is_id(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True


def _viewer(principal: Principal) -> rows.Viewer:
    everything = principal.allows(Scope.OPERATE)
    return rows.Viewer(everything, principal.project_id, principal.key_id, principal.user_id)


def _own(principal: Principal) -> Principal:
    """The stack itself, for whom it was asked."""
    return Principal(DEFAULT_PROJECT, principal.name, frozenset({Scope.OPERATE}))


async def _found(
    tx: Transaction, principal: Principal, called: str, *, to_change: bool = False
) -> tuple[Project, UUID | None]:
    found = None
    if "\x00" not in called:
        found = await rows.find(tx, _viewer(principal), called, to_change=to_change)
    if found is None:
        raise NotFound(UNKNOWN)
    return found


async def _managed(
    tx: Transaction, principal: Principal, called: str, *, to_change: bool = False
) -> Project:
    """A project that the caller manages: the one at hand, or any for who operates the stack."""
    project, _ = await _found(tx, principal, called, to_change=to_change)
    if not principal.allows(Scope.OPERATE):
        if principal.project_id != project.id:
            raise Forbidden("These credentials do not manage this project, or not in this request.")
        principal.require(Scope.MANAGE)
    if to_change and project.state == "deleting":
        raise Conflict(GOING)
    return project


def _check_role(principal: Principal, role: Role) -> None:
    """A key that operates the stack, such as one for metrics, gives nobody what it lacks."""
    more = sorted(scope.value for scope in SCOPES_OF[role] - principal.scopes)
    if more:
        raise Forbidden(f"You cannot give what you do not have: {', '.join(more)}.")


def _check_owner(principal: Principal, *, last: bool) -> None:
    if last and not principal.allows(Scope.OPERATE):
        raise Conflict(LAST)


async def _user(tx: Transaction, called: str) -> User:
    found = None if "\x00" in called else await users.user(tx, called)
    if found is None:
        raise NotFound("There is no user of this name or id.")
    return found


async def _put(
    tx: Transaction, principal: Principal, project_id: UUID, user: User, role: Role
) -> Member:
    await rows.put_member(tx, project_id, user.id, role)
    member = Member(user.id, user.name, role)
    await _record_member(tx, principal, project_id, "member.add", member)
    return member


async def _record_member(
    tx: Transaction, principal: Principal, project_id: UUID, action: str, member: Member
) -> None:
    detail = {"user_id": member.user_id, "role": member.role}
    await audit.record(
        tx, principal.name, action, member.name, project_id=project_id, detail=detail
    )


async def _record_change(tx: Transaction, principal: Principal, old: Project, new: Project) -> None:
    detail: dict[str, object] = {}
    if new.name != old.name:
        detail |= {"from": old.name, "to": new.name}
    if new.limits != old.limits:
        detail["limits"] = dict(new.limits)
    if detail:
        await audit.record(
            tx,
            principal.name,
            "project.change",
            str(old.id),
            project_id=old.id,
            detail=detail,
        )
