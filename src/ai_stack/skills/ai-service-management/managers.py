"""Who runs the stack, and how they are asked: the supervisor, systemd, compose."""

import json
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import psutil

from ai_stack.skill import SkillFailed

from .programs import run, run_later, run_well
from .states import StackState, of_compose, of_supervisor

Part: TypeAlias = Literal[
    "stack", "postgres", "redis", "embedder", "vectors", "llama-cpp", "worker", "gateway"
]
Command: TypeAlias = tuple[str, ...]
MANAGER, UNIT, COMPOSE_FILE = "AI_STACK_MANAGER", "AI_STACK_UNIT", "AI_STACK_COMPOSE_FILE"
ROOTS = "it was started by root, and no part of it commands it; ask `ai-stack` itself, as root."
AI_STACK: Command = (sys.executable, "-m", "ai_stack")
NOT_RUNNING = 3
LAST = "This runs inside the stack that it ends: the stack does it in a second."
KEPT = (
    "The supervisor keeps every part running and stops the whole stack only; restart the part,"
    " or stop the stack."
)


class Manager(ABC):
    """Does what is asked of the stack or of one part, and tells what came of it."""

    name: ClassVar[str]

    @abstractmethod
    def start_command(self, part: Part) -> Command: ...

    @abstractmethod
    def stop_command(self, part: Part) -> Command: ...

    @abstractmethod
    def restart_command(self, part: Part) -> Command: ...

    @abstractmethod
    def logs_command(self, part: Part, lines: int) -> Command: ...

    @abstractmethod
    async def status(self) -> StackState: ...

    async def start(self, part: Part) -> StackState:
        await run_well(self.start_command(part))
        return await self.status()

    async def stop(self, part: Part) -> StackState:
        return await self._end(part, self.stop_command(part))

    async def restart(self, part: Part) -> StackState:
        return await self._end(part, self.restart_command(part))

    async def logs(self, command: Command) -> str:
        return await run_well(command)

    async def _end(self, part: Part, command: Command) -> StackState:
        if part in ("stack", "gateway") and await self._is_inside():
            state = await self.status()
            await run_later(command)
            return StackState(state.running, state.healthy, state.url, state.parts, LAST)
        await run_well(command)
        return await self.status()

    async def _is_inside(self) -> bool:
        """Whether this process would end with the stack."""
        return False


def _comes_from_root() -> bool:
    """Whether root started the stack that this process, not root's, is a part of."""
    parent = psutil.Process().parent()
    return os.geteuid() != 0 and parent is not None and parent.uids().effective == 0


class Supervisor(Manager):
    """`ai-stack up`, asked by the program `ai-stack`."""

    name = "supervisor"

    def start_command(self, part: Part) -> Command:
        up = (*AI_STACK, "up", "--detach", "--json")
        return up if part == "stack" else self.restart_command(part)

    def stop_command(self, part: Part) -> Command:
        if part != "stack":
            raise SkillFailed(KEPT)
        return (*AI_STACK, "down")

    def restart_command(self, part: Part) -> Command:
        return (*AI_STACK, "restart", *_named(part))

    def logs_command(self, part: Part, lines: int) -> Command:
        return (*AI_STACK, "logs", *_named(part), "-n", str(lines))

    async def start(self, part: Part) -> StackState:
        """A part that runs already is left alone; one that does not is waited for."""
        state = await self.status()
        found = state.part(part)
        if part != "stack" and not state.running:
            raise SkillFailed("The stack does not run: start all of it, its parts come with it.")
        if found is not None and found.runs:
            return state
        return await super().start(part)

    async def status(self) -> StackState:
        return of_supervisor(await self._asked())

    async def _is_inside(self) -> bool:
        """Whether the supervisor is among the processes that this one comes from."""
        pid = (await self._asked()).get("pid")
        return any(parent.pid == pid for parent in psutil.Process().parents())

    async def _asked(self) -> Mapping[str, object]:
        ended = await run((*AI_STACK, "status", "--json"))
        try:
            found = json.loads(ended.output)
        except ValueError:
            reason = ROOTS if _comes_from_root() else ended.reason
            raise SkillFailed(f"The supervisor cannot be asked: {reason}") from None
        if not isinstance(found, dict):
            raise SkillFailed("The supervisor gave an answer of another form.")
        return found


class Systemd(Supervisor):
    """A unit of systemd with the supervisor in it: the whole by the unit, the parts by it."""

    name = "systemd"

    def start_command(self, part: Part) -> Command:
        return self._unit("start") if part == "stack" else super().start_command(part)

    def stop_command(self, part: Part) -> Command:
        return self._unit("stop") if part == "stack" else super().stop_command(part)

    def restart_command(self, part: Part) -> Command:
        return self._unit("restart") if part == "stack" else super().restart_command(part)

    def _unit(self, verb: str) -> Command:
        unit = os.environ.get(UNIT, "ai-stack.service")
        if unit.startswith("-") or "/" in unit:
            raise SkillFailed(f"{UNIT} must be the name of a unit.")
        scope = () if os.geteuid() == 0 else ("--user",)
        return (_program("systemctl"), *scope, verb, unit)


class Compose(Manager):
    """Containers, asked by podman's or docker's compose."""

    name = "compose"

    def start_command(self, part: Part) -> Command:
        return self._compose("up", "--detach", *_named(part))

    def stop_command(self, part: Part) -> Command:
        return self._compose("stop", *_named(part))

    def restart_command(self, part: Part) -> Command:
        return self._compose("restart", *_named(part))

    def logs_command(self, part: Part, lines: int) -> Command:
        return self._compose("logs", "--no-color", "--tail", str(lines), *_named(part))

    async def status(self) -> StackState:
        return of_compose(_rows(await run_well(self._compose("ps", "--all", "--format", "json"))))

    def _compose(self, *words: str) -> Command:
        given = os.environ.get(COMPOSE_FILE, "")
        if not given or not Path(given).is_file():
            raise SkillFailed(f"{COMPOSE_FILE} must name the compose file of the stack.")
        file = str(Path(given).resolve())
        if (alone := shutil.which("podman-compose")) and not shutil.which("docker"):
            return (alone, "-f", file, *words)
        return (_program("podman", "docker"), "compose", "-f", file, *words)


MANAGERS: Mapping[str, type[Manager]] = {m.name: m for m in (Supervisor, Systemd, Compose)}


def chosen_manager() -> Manager:
    """The one that AI_STACK_MANAGER names."""
    name = os.environ.get(MANAGER) or Supervisor.name
    if name not in MANAGERS:
        raise SkillFailed(f"{MANAGER} must be one of {', '.join(MANAGERS)}.")
    return MANAGERS[name]()


def _named(part: Part) -> Command:
    return () if part == "stack" else (part,)


def _program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise SkillFailed(f"{' or '.join(names)} is not on this machine's PATH.")
    return found


def _rows(output: str) -> list[Mapping[str, object]]:
    """Containers of a JSON list, or of one object a line."""
    try:
        found = json.loads(output or "[]")
        rows = found if isinstance(found, list) else [found]
    except ValueError:
        try:
            rows = [json.loads(line) for line in output.splitlines() if line.strip()]
        except ValueError:
            raise SkillFailed("compose gave an answer of another form.") from None
    return [row for row in rows if isinstance(row, dict)]
