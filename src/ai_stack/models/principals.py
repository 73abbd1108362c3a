"""Who asks: the identity, the project and the rights that every service call carries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from uuid import UUID

from ai_stack.errors import Forbidden

DEFAULT_PROJECT = UUID("00000000-0000-7000-8000-000000000001")

Role: TypeAlias = Literal["owner", "editor", "reader"]


class Scope(StrEnum):
    """A kind of operation: what a key may be made for, and what a role brings."""

    READ = "read"  # documents, searches, runs, lists
    WRITE = "write"  # documents, imports, sessions
    INFER = "infer"  # models
    SKILLS = "skills"  # running them
    AGENT = "agent"  # letting a model use tools
    MANAGE = "manage"  # the project's keys, members and limits
    OPERATE = "operate"  # the stack itself: projects, users, index, embedding models, metrics


EVERY_SCOPE = frozenset(Scope)
READER = frozenset({Scope.READ, Scope.INFER})
EDITOR = READER | {Scope.WRITE, Scope.SKILLS, Scope.AGENT}
SCOPES_OF: Mapping[Role, frozenset[Scope]] = MappingProxyType(
    {"reader": READER, "editor": EDITOR, "owner": EDITOR | {Scope.MANAGE}}
)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a service, the project it works in, and what it may do there.

    `toolsets` are those of MCP that it sees, None for all; `limits` are by whom they count for,
    its key, those that made it, or its project. What it makes ends at `expires_at` too.
    """

    project_id: UUID = DEFAULT_PROJECT
    name: str = "local"
    scopes: frozenset[Scope] = EVERY_SCOPE
    key_id: str | None = None
    user_id: UUID | None = None
    toolsets: frozenset[str] | None = None
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    expires_at: datetime | None = None

    def kept(self) -> dict[str, object]:
        """All but the project, as a run keeps it for the worker."""
        return {
            "name": self.name,
            "scopes": sorted(self.scopes),
            "key_id": self.key_id,
            "user_id": None if self.user_id is None else str(self.user_id),
            "limits": {subject: dict(limits) for subject, limits in self.limits.items()},
            "expires_at": None if self.expires_at is None else self.expires_at.isoformat(),
        }

    @classmethod
    def restored(cls, project_id: UUID, kept: Mapping[str, Any]) -> "Principal":
        """Who started a run; without a word about it, this machine's owner."""
        if not kept:
            return cls(project_id)
        ends = kept.get("expires_at")
        return cls(
            project_id,
            kept["name"],
            frozenset(map(Scope, kept["scopes"])),
            kept["key_id"],
            kept["user_id"] and UUID(kept["user_id"]),
            limits=kept["limits"],
            expires_at=None if ends is None else datetime.fromisoformat(ends),
        )

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes

    def require(self, scope: Scope) -> None:
        """Return when the caller may do this kind of operation; Forbidden."""
        if scope not in self.scopes:
            raise Forbidden(f"This needs the scope {scope.value!r}, which these credentials lack.")


def earliest(*ends: datetime | None) -> datetime | None:
    """When the first of several ends; None for never."""
    return min((end for end in ends if end is not None), default=None)
