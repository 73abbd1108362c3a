"""Keys, users, members and what they may do, as the services hand them on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from ai_stack.models.principals import Role, Scope

State: TypeAlias = Literal["active", "suspended", "deleting"]
UserState: TypeAlias = Literal["active", "suspended"]
Limits: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Membership:
    """A project that a caller may work in; `role` is None for a key that belongs to no user."""

    project_id: UUID
    name: str
    state: State
    role: Role | None = None
    limits: Limits = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Owner:
    """The user behind a credential, as of now."""

    id: UUID
    name: str
    is_admin: bool
    state: State


@dataclass(frozen=True, slots=True)
class Credential:
    """What is kept of a credential: whose it is, and what it brings at most.

    `limits` are by whom they count for, those of the key's makers before its own. Who holds a
    `renewable` one gets another at will, so that what it makes may outlive it.
    """

    name: str
    scopes: frozenset[Scope]
    projects: tuple[Membership, ...]
    owner: Owner | None = None
    key_id: str | None = None
    secret: bytes = b""
    toolsets: frozenset[str] | None = None
    limits: Mapping[str, Limits] = field(default_factory=dict)
    expires_at: datetime | None = None
    revoked: bool = False
    renewable: bool = False


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made; without projects it is for the one that its maker works in."""

    name: str
    scopes: frozenset[Scope]
    projects: tuple[str, ...] = ()
    toolsets: frozenset[str] | None = None
    limits: Limits = field(default_factory=dict)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret.

    `root` is the first of those that it was rotated from, or itself, and `maker` the root of the
    key that made it.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    projects: tuple[UUID, ...]
    toolsets: tuple[str, ...] | None
    limits: Limits
    user_id: UUID | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    root: str
    maker: str | None


@dataclass(frozen=True, slots=True)
class User:
    """A user without the password; one that is `temporary` is to be replaced at the first login."""

    id: UUID
    name: str
    is_admin: bool
    state: UserState
    has_password: bool
    temporary: bool
    created_at: datetime
    issuers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class NewUser:
    """A user to be made, who logs in by a password, as an issuer's subject, or by both.

    Without either a password is made up, and is `temporary`.
    """

    name: str
    password: str | None = None
    temporary: bool = False
    is_admin: bool = False
    issuer: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change to who may do what."""

    id: UUID
    at: datetime
    actor: str
    action: str
    subject: str
    project_id: UUID | None
    detail: Mapping[str, object]
