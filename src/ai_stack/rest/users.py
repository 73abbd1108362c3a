"""Users over REST, for those who operate the stack."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ai_stack.errors import InvalidRequest
from ai_stack.models.trust import NewUser, User
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import JsonRoute, Operator, UseStack

router = APIRouter(tags=["trust"], route_class=JsonRoute)

Limit = Annotated[int, Query(ge=1, le=1000)]
UNCACHED = {"Cache-Control": "no-store"}


class UserBody(BaseModel):
    """A user to make; without a password and an issuer, a password is made up."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255)
    password: SecretStr | None = Field(None, max_length=1024)
    temporary: bool = Field(False, description="the password has to be changed first")
    is_admin: bool = Field(False, description="may do everything, in every project")
    issuer: str | None = Field(None, max_length=255, description="where the user signs on")
    subject: str | None = Field(None, max_length=255, description="who the user is there")

    def user(self) -> NewUser:
        password = None if self.password is None else self.password.get_secret_value()
        return NewUser(
            self.name, password, self.temporary, self.is_admin, self.issuer, self.subject
        )


class UserChange(BaseModel):
    """What to change of a user, one at a time."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["active", "suspended"] | None = None
    is_admin: bool | None = None


class NewPassword(BaseModel):
    """Another password for a user; without one, it is made up."""

    model_config = ConfigDict(extra="forbid")

    password: SecretStr | None = Field(None, max_length=1024)
    temporary: bool = Field(False, description="it has to be changed first")


@router.post("/users", status_code=201)
async def create_user(stack: UseStack, caller: Operator, body: UserBody) -> Response:
    """Make a user. `password` is one that was made up: it is told this once, for the first login.

    A new user is a member of no project.
    """
    made, password = await stack.accounts.users.create(caller, body.user())
    return respond(_with_password(made, password), 201, UNCACHED)


@router.get("/users")
async def list_users(
    stack: UseStack, caller: Operator, limit: Limit = 100, cursor: str | None = None
) -> Response:
    """Users in the order of their making, a page at a time."""
    page = await stack.accounts.users.page(caller, limit=limit, cursor=cursor)
    return respond({"items": [user_json(u) for u in page.items], "next_cursor": page.next_cursor})


@router.get("/users/{user}")
async def get_user(stack: UseStack, caller: Operator, user: str) -> Response:
    """One user, by name or id."""
    return respond(user_json(await stack.accounts.users.get(caller, user)))


@router.patch("/users/{user}")
async def change_user(stack: UseStack, caller: Operator, user: str, body: UserChange) -> Response:
    """Suspend a user or let one in again, or change who operates the stack.

    A suspended user's logins end, and the keys are refused everywhere from then on.
    """
    if body.state is not None and body.is_admin is None:
        return respond(user_json(await stack.accounts.users.set_state(caller, user, body.state)))
    if body.is_admin is not None and body.state is None:
        return respond(user_json(await stack.accounts.users.set_admin(caller, user, body.is_admin)))
    raise InvalidRequest("Change one of `state` and `is_admin` at a time.")


@router.put("/users/{user}/password")
async def set_password(stack: UseStack, caller: Operator, user: str, body: NewPassword) -> Response:
    """Give a user another password; every login of the user ends."""
    given = None if body.password is None else body.password.get_secret_value()
    changed, made_up = await stack.accounts.users.set_password(
        caller, user, given, temporary=body.temporary
    )
    return respond(_with_password(changed, made_up), headers=UNCACHED)


@router.delete("/users/{user}", status_code=204)
async def delete_user(stack: UseStack, caller: Operator, user: str) -> Response:
    """Remove a user with all keys, logins and memberships."""
    await stack.accounts.users.delete(caller, user)
    return Response(status_code=204)


def user_json(user: User) -> dict[str, object]:
    """A user, without anything of the password."""
    return {
        "id": user.id,
        "name": user.name,
        "state": user.state,
        "is_admin": user.is_admin,
        "has_password": user.has_password,
        "temporary": user.temporary,
        "issuers": user.issuers,
        "created_at": user.created_at,
    }


def _with_password(user: User, made_up: str | None) -> dict[str, object]:
    return user_json(user) | ({} if made_up is None else {"password": made_up})
