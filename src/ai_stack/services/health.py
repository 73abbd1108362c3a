"""How each part is, asked all at once and never for long."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ai_stack import __version__
from ai_stack.errors import AIStackError
from ai_stack.models.departure import Departure
from ai_stack.models.health import Health, PartHealth

PROBE_TIMEOUT_S = 2.0
ESSENTIAL = "postgres"

Probe = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class HealthChecks:
    """A probe for each part, None for a part that is not configured; it returns a detail.

    `leaving` is the end of this process, which happens while it still answers.
    """

    probes: Mapping[str, Probe | None]
    leaving: Departure = field(default_factory=Departure)

    async def check(self) -> Health:
        """Unhealthy without PostgreSQL, degraded without another configured part."""
        names = list(self.probes)
        found = await asyncio.gather(*(self._ask(self.probes[name]) for name in names))
        services = dict(zip(names, found, strict=True))
        return Health(_overall(services), services, __version__)

    async def _ask(self, probe: Probe | None) -> PartHealth:
        if probe is None:
            return PartHealth("disabled")
        started = time.perf_counter()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                detail = await probe()
        except TimeoutError:
            return PartHealth("unhealthy", _since(started), "It does not answer in time.")
        except AIStackError as error:
            return PartHealth("unhealthy", _since(started), error.message)
        return PartHealth("healthy", _since(started), detail)


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


def _overall(services: Mapping[str, PartHealth]) -> Literal["healthy", "degraded", "unhealthy"]:
    if services[ESSENTIAL].status == "unhealthy":
        return "unhealthy"
    ill = any(part.status in ("unhealthy", "degraded") for part in services.values())
    return "degraded" if ill else "healthy"
