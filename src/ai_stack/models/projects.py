"""Projects and their members, as the services hand them on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ai_stack.models.principals import Role
from ai_stack.models.runs import Run
from ai_stack.models.trust import Limits, State


@dataclass(frozen=True, slots=True)
class Project:
    """A project as a caller sees it.

    `role` is the caller's own as a user, None for others; `deletion` is the run that deletes it.
    """

    id: UUID
    name: str
    state: State
    limits: Limits
    created_at: datetime
    role: Role | None = None
    deletion: Run | None = None


@dataclass(frozen=True, slots=True)
class ProjectPage:
    """A page of projects in the order of their making; `next_cursor` is None on the last."""

    items: Sequence[Project]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Member:
    """A user who works in a project."""

    user_id: UUID
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class MemberPage:
    """A page of members in the order of the users' making."""

    items: Sequence[Member]
    next_cursor: str | None
