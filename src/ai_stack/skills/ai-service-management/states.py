"""What a stack and its parts do, whoever runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_stack.skill import JSON

GATEWAY = ("aidb-mcp", "gateway", "aidb")


@dataclass(frozen=True, slots=True)
class PartState:
    """One part; `process` is a process or a container, empty where there is none."""

    name: str
    state: str
    process: str = ""
    uptime_s: float | None = None
    restarts: int | None = None
    detail: str = ""
    log: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        return self.state == "running"

    def is_called(self, name: str) -> bool:
        return self.name == name or {self.name, name} <= {*GATEWAY}

    def shown(self) -> dict[str, JSON]:
        return {
            "name": self.name,
            "state": self.state,
            "process": self.process or None,
            "uptime_s": None if self.uptime_s is None else round(self.uptime_s, 1),
            "restarts": self.restarts,
            "detail": self.detail,
            "log": [*self.log],
        }


@dataclass(frozen=True, slots=True)
class StackState:
    """The whole of it; `note` is what a caller should know beside it."""

    running: bool
    healthy: bool = False
    url: str = ""
    parts: Sequence[PartState] = ()
    note: str = ""

    def shown(self) -> dict[str, JSON]:
        return {
            "running": self.running,
            "healthy": self.healthy,
            "url": self.url or None,
            "parts": [part.shown() for part in self.parts],
        }

    def part(self, name: str) -> PartState | None:
        return next((part for part in self.parts if part.is_called(name)), None)

    def process_of(self, name: str) -> str | None:
        found = self.part(name)
        return found.process if found is not None and found.process else None

    def told(self, name: str) -> str:
        """A line on the stack or on one part, and one for each part that does not run."""
        one = self.part(name)
        if one is not None:
            return f"{one.name} is {one.state}{f' as {one.process}' if one.process else ''}."
        if not self.running:
            return "The stack does not run."
        word = "healthy" if self.healthy else "not healthy"
        lines = [f"The stack runs and is {word}: {len(self.parts)} parts."]
        ill = [part for part in self.parts if not part.runs]
        return "\n".join(lines + [f"{p.name} is {p.state}. {p.detail}".strip() for p in ill[:4]])


def of_supervisor(found: Mapping[str, object]) -> StackState:
    """The state that `ai-stack status --json` tells; parts that run once and are done left out."""
    if not found.get("running"):
        return StackState(running=False)
    rows = found.get("parts")
    listed = rows if isinstance(rows, list) else []
    parts = [_of_row(row) for row in listed if isinstance(row, Mapping)]
    kept = [part for part in parts if part.state != "done"]
    return StackState(True, found.get("healthy") is True, str(found.get("url", "")), kept)


def of_compose(rows: Sequence[Mapping[str, object]]) -> StackState:
    """The state that `compose ps --format json` tells, in podman's words or docker's."""
    parts = [
        PartState(
            str(row.get("Service") or row.get("Name") or _first(row.get("Names"))),
            str(row.get("State") or "unknown").lower(),
            str(row.get("ID") or row.get("Id") or "")[:12],
            detail=str(row.get("Status") or ""),
        )
        for row in rows
    ]
    running = any(part.runs for part in parts)
    healthy = running and all(part.runs and "unhealthy" not in part.detail for part in parts)
    return StackState(running, healthy, parts=parts)


def _of_row(row: Mapping[str, object]) -> PartState:
    log = row.get("log")
    return PartState(
        name=str(row.get("name")),
        state=str(row.get("state")),
        process=str(row.get("pid") or ""),
        uptime_s=float(str(row.get("uptime_s") or 0)),
        restarts=int(str(row.get("restarts") or 0)),
        detail=str(row.get("detail") or ""),
        log=tuple(str(line) for line in log) if isinstance(log, list) else (),
    )


def _first(value: object) -> str:
    return str(value[0]) if isinstance(value, list) and value else ""
