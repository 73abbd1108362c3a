"""Who asks: the identity and project that every service call carries."""

from dataclasses import dataclass
from uuid import UUID

DEFAULT_PROJECT = UUID("00000000-0000-7000-8000-000000000001")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a service and the project it works in."""

    project_id: UUID = DEFAULT_PROJECT
    name: str = "local"
