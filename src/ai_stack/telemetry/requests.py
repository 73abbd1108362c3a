"""One request on its way through the process: what logs and traces know of it, and its measure."""

import logging
from collections.abc import Container, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Protocol

from ai_stack.telemetry.instruments import OTHER, Cell
from ai_stack.telemetry.metrics import Metrics
from ai_stack.telemetry.slow import SlowLog

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
LEFT = 0  # in place of a status: the client went before the answer was complete
# The ASGI scope of the request that is being answered.
REQUEST: ContextVar[MutableMapping[str, Any] | None] = ContextVar("request", default=None)

access = logging.getLogger("ai_stack.access")


class Traced(Protocol):
    """What makes a span of a request."""

    def request(self, scope: Mapping[str, Any], route: str, status: int, took_s: float) -> None: ...


def request_id() -> str | None:
    """The id of the request that is being answered, if one is."""
    scope = REQUEST.get()
    return None if scope is None else scope["state"].get("request_id")


class Requests:
    """Takes every request that has ended; `fixed` are the paths that no router has matched."""

    def __init__(
        self,
        metrics: Metrics,
        slow: SlowLog,
        *,
        fixed: Container[str],
        logged: bool = False,
        traced: Traced | None = None,
    ) -> None:
        self.fixed = fixed
        self._family, self._slow = metrics.counted.requests, slow
        self._logged, self._traced = logged, traced
        self._cells: dict[tuple[str, str, int], Cell] = {}

    def ended(self, scope: Mapping[str, Any], status: int, took_s: float) -> None:
        """Measure a request; on every request's way, so it is counted in nanoseconds."""
        route = scope.get("route")
        place = self._place(scope["path"]) if route is None else route.path
        cell = self._cells.get((place, scope["method"], status))
        if cell is None:
            cell = self._new(place, scope["method"], status)
        cell.observe(took_s)
        if took_s > self._slow.threshold_s:
            self._slow.note("request", f"{scope['method']} {place}", took_s, _id(scope))
        if self._logged:
            path = scope["path"]
            access.info("%s %s %d %.1f ms", scope["method"], path, status, took_s * 1000)
        if self._traced is not None:
            self._traced.request(scope, place, status, took_s)

    def _place(self, path: str) -> str:
        if path in self.fixed:
            return path
        return "/mcp" if path == "/mcp" or path.startswith("/mcp/") else OTHER

    def _new(self, place: str, method: str, status: int) -> Cell:
        method = method if method in METHODS else OTHER
        cell = self._family.at(place, method, f"{status // 100}xx" if status else "left")
        if method != OTHER:
            self._cells[place, method, status] = cell
        return cell


def _id(scope: Mapping[str, Any]) -> str | None:
    found: str | None = scope["state"].get("request_id")
    return found
