"""Projects and their members over REST."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Scope

from ai_stack.errors import Forbidden
from ai_stack.models.answers import run_json
from ai_stack.models.principals import Principal, Role
from ai_stack.models.principals import Scope as Permission
from ai_stack.models.projects import Member, Project
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import JsonRoute, Known, Needs, Operator, UseStack

router = APIRouter(prefix="/projects", tags=["trust"], route_class=JsonRoute)

Limit = Annotated[int, Query(ge=1, le=1000)]
LIMITS = "such as requests_per_minute or tokens_per_day"


@dataclass(frozen=True, slots=True)
class NeedsThere(Needs):
    """The policy of a route about one project: the scope in that project, or `operate` anywhere.

    So who manages several projects need not say a second time which one is meant. Who has the
    scope elsewhere is let in too, to be told that there is no such project.
    """

    async def caller(self, scope: Scope) -> Principal:
        state = scope["state"]
        given = state.setdefault("given", state.get("carried", ()))
        named = (b"x-project", str(scope["path_params"]["id"]).encode())
        state["carried"] = (*(pair for pair in given if pair[0] != b"x-project"), named)
        try:
            return await Needs(self.scope).caller(scope)
        except Forbidden as refused:  # the service says of which project this may be
            state["carried"] = given
            principal = await Needs(None).caller(scope)
            if not {self.scope, Permission.OPERATE} & principal.scopes:
                raise refused from None
            return principal


ManagerThere = Annotated[Principal, Depends(NeedsThere(Permission.MANAGE))]


class ProjectBody(BaseModel):
    """A project to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    limits: dict[str, int] = Field(default_factory=dict, description=LIMITS)
    owner: str | None = Field(None, description="name or id of the user who owns it")


class ChangeBody(BaseModel):
    """What changes of a project; the rest stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=100)
    limits: dict[str, int] | None = Field(None, description="in place of all that it has")


class MemberBody(BaseModel):
    """A user, and what the user may do in the project."""

    model_config = ConfigDict(extra="forbid")

    user: str = Field(min_length=1, max_length=255, description="name or id")
    role: Role


class StateBody(BaseModel):
    """Whether anybody works in a project."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["active", "suspended"]


@router.post("", status_code=201)
async def create_project(stack: UseStack, caller: Operator, body: ProjectBody) -> Response:
    """Make a project."""
    made = await stack.projects.create(caller, body.name, body.limits, body.owner)
    return respond(project_json(made), 201)


@router.get("")
async def list_projects(
    stack: UseStack, caller: Known, limit: Limit = 100, cursor: str | None = None
) -> Response:
    """The projects that are the caller's, in the order of their making, a page at a time."""
    page = await stack.projects.page(caller, limit=limit, cursor=cursor)
    items = [project_json(one) for one in page.items]
    return respond({"items": items, "next_cursor": page.next_cursor})


@router.get("/{id}")
async def get_project(stack: UseStack, caller: Known, id: str) -> Response:
    """One project by its id or name; one that is being deleted tells how far that is."""
    return respond(project_json(await stack.projects.get(caller, id)))


@router.patch("/{id}")
async def change_project(
    stack: UseStack, caller: ManagerThere, id: str, body: ChangeBody
) -> Response:
    """Give a project another name or other limits."""
    changed = await stack.projects.change(caller, id, name=body.name, limits=body.limits)
    return respond(project_json(changed))


@router.put("/{id}/state")
async def set_state(stack: UseStack, caller: Operator, id: str, body: StateBody) -> Response:
    """Suspend a project, so that nobody works in it, or open it again."""
    return respond(project_json(await stack.projects.set_state(caller, id, body.state)))


@router.delete("/{id}", status_code=202)
async def delete_project(stack: UseStack, caller: Operator, id: str) -> Response:
    """Shut a project for good, and remove every trace of it: a run of the default project."""
    return respond(run_json(await stack.projects.delete(caller, id)), 202)


@router.get("/{id}/members")
async def list_members(
    stack: UseStack, caller: ManagerThere, id: str, limit: Limit = 100, cursor: str | None = None
) -> Response:
    """The users who work in a project, a page at a time."""
    page = await stack.projects.members(caller, id, limit=limit, cursor=cursor)
    items = [member_json(one) for one in page.items]
    return respond({"items": items, "next_cursor": page.next_cursor})


@router.post("/{id}/members")
async def put_member(stack: UseStack, caller: ManagerThere, id: str, body: MemberBody) -> Response:
    """Have a user work in a project, or give a member another role."""
    return respond(member_json(await stack.projects.put_member(caller, id, body.user, body.role)))


@router.delete("/{id}/members/{user}", status_code=204)
async def remove_member(stack: UseStack, caller: ManagerThere, id: str, user: str) -> Response:
    """Take a user, by id or name, out of a project."""
    await stack.projects.remove_member(caller, id, user)
    return Response(status_code=204)


def project_json(project: Project) -> dict[str, object]:
    """A project; `deletion` is there while it is being deleted, `role` for a member."""
    shown: dict[str, object] = {
        "id": project.id,
        "name": project.name,
        "state": project.state,
        "limits": dict(project.limits),
        "created_at": project.created_at,
    }
    if project.role is not None:
        shown["role"] = project.role
    if project.deletion is not None:
        shown["deletion"] = run_json(project.deletion)
    return shown


def member_json(member: Member) -> dict[str, object]:
    return {"user_id": member.user_id, "user": member.name, "role": member.role}
