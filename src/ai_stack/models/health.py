"""What each part says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

HealthStatus = Literal["healthy", "degraded", "unhealthy", "disabled"]


@dataclass(frozen=True, slots=True)
class PartHealth:
    status: HealthStatus
    latency_ms: float = 0.0
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    status: Literal["healthy", "degraded", "unhealthy"]
    services: Mapping[str, PartHealth]
    version: str
