"""API keys and the audit log over REST."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ai_stack.models.principals import Scope
from ai_stack.models.trust import Key, NewKey
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import JsonRoute, Known, Manager, UseStack

router = APIRouter(tags=["trust"], route_class=JsonRoute)

Limit = Annotated[int, Query(ge=1, le=1000)]
UNCACHED = {"Cache-Control": "no-store"}


class KeyBody(BaseModel):
    """A key to make; it has no more rights than its maker, and ends no later."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=255)
    scopes: list[Scope] = Field(min_length=1)
    projects: list[str] = Field(
        default_factory=list, description="names or ids; by default the project of this request"
    )
    toolsets: list[str] | None = Field(None, description="of MCP; by default all")
    limits: dict[str, int] = Field(
        default_factory=dict, description="such as requests_per_minute or tokens_per_day"
    )
    expires_at: AwareDatetime | None = None

    def key(self) -> NewKey:
        toolsets = None if self.toolsets is None else frozenset(self.toolsets)
        return NewKey(
            self.name,
            frozenset(self.scopes),
            tuple(self.projects),
            toolsets,
            self.limits,
            self.expires_at,
        )


@router.post("/keys", status_code=201)
async def create_key(stack: UseStack, caller: Manager, body: KeyBody) -> Response:
    """Make a key. `key` holds its secret, which is told this once."""
    made, token = await stack.keys.create(caller, body.key())
    return respond({**key_json(made), "key": token}, 201, UNCACHED)


@router.get("/keys")
async def list_keys(
    stack: UseStack, caller: Manager, limit: Limit = 100, cursor: str | None = None
) -> Response:
    """Keys in the order of their making, a page at a time; those that were revoked too."""
    page = await stack.keys.page(caller, limit=limit, cursor=cursor)
    return respond({"items": [key_json(k) for k in page.items], "next_cursor": page.next_cursor})


@router.get("/keys/{id}")
async def get_key(stack: UseStack, caller: Manager, id: str) -> Response:
    """One key, without its secret."""
    return respond(key_json(await stack.keys.get(caller, id)))


@router.post("/keys/{id}/rotate", status_code=201)
async def rotate_key(stack: UseStack, caller: Manager, id: str) -> Response:
    """Put another key in this one's place, which is refused from now on.

    A key rotates itself, a user their own keys; neither one that has more than they have.
    """
    made, token = await stack.keys.rotate(caller, id)
    return respond({**key_json(made), "key": token}, 201, UNCACHED)


@router.delete("/keys/{id}")
async def revoke_key(stack: UseStack, caller: Manager, id: str) -> Response:
    """Refuse a key, and every key that it made, from now on at every gateway."""
    return respond(key_json(await stack.keys.revoke(caller, id)))


@router.get("/auth/me")
async def whoami(stack: UseStack, caller: Known) -> Response:
    """Who asks, in which project, and what it may do there."""
    shown = {
        "name": caller.name,
        "project_id": caller.project_id,
        "scopes": sorted(caller.scopes),
        "key_id": caller.key_id,
        "user_id": caller.user_id,
        "toolsets": None if caller.toolsets is None else sorted(caller.toolsets),
        "limits": {subject: dict(limits) for subject, limits in caller.limits.items()},
        "authentication": "required" if stack.identity.is_required else "off",
    }
    return respond(shown, headers=UNCACHED)


@router.get("/audit")
async def list_audit(
    stack: UseStack, caller: Manager, limit: Limit = 100, cursor: str | None = None
) -> Response:
    """What changed who may do what, the latest first, a page at a time."""
    page = await stack.audit.page(caller, limit=limit, cursor=cursor)
    return respond({"items": list(page.items), "next_cursor": page.next_cursor})


def key_json(key: Key) -> dict[str, object]:
    """A key; `state` says whether it holds."""
    return {
        "id": key.id,
        "name": key.name,
        "state": _state(key),
        "scopes": key.scopes,
        "projects": key.projects,
        "toolsets": key.toolsets,
        "limits": key.limits,
        "user_id": key.user_id,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "used_at": key.used_at,
        "root": key.root,
        "maker": key.maker,
    }


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    over = key.expires_at is not None and key.expires_at <= datetime.now(key.expires_at.tzinfo)
    return "expired" if over else "active"
