"""Keeps the stack's processes running; what a part is, and what it looks like from outside.

A part is data: its command, what it needs, how one sees that it is ready and how it is stopped.
Nothing here knows a part by name; `parts` describes them.
"""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

State = Literal[
    "waiting", "starting", "running", "restarting", "failing", "done", "stopping", "stopped"
]
Line = Callable[[str], None]


class NotReady(Exception):
    """The part does not answer yet; the text says what it does instead."""


class Tool(Protocol):
    """Runs a short command as the parts' user; its output goes to the part's log and is returned.

    Raises StackError when the command fails.
    """

    async def __call__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> str: ...


Probe = Callable[[], Awaitable[None]]
Preparation = Callable[[Tool], Awaitable[None]]
Check = Callable[[Tool], Awaitable[bool]]


async def at_once() -> None:
    """The probe of a part that is ready as soon as it runs."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process that the supervisor keeps; a `once` part runs to its end before what needs it.

    It starts when all that it `needs` is ready, and is stopped before what it needs or `uses`.
    `ready` raises NotReady until the part answers. `prepare` runs before every start.
    A `once` part whose `settled` answers True has nothing to do and is not run.
    `death_signal` is what the kernel sends when the supervisor itself is killed.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Probe = at_once
    prepare: Preparation | None = None
    once: bool = False
    settled: Check | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 10.0
    start_s: float = 60.0
    log: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def log_name(self) -> str:
        """File under <data>/logs; parts of one name share it."""
        return self.log or f"{self.name}.log"

    def answers_to(self, name: str) -> bool:
        return name == self.name or name in self.aliases


@dataclass(frozen=True, slots=True)
class PartStatus:
    """What one part does at this moment; `log` holds its last lines when it is in trouble."""

    name: str
    state: State
    pid: int | None = None
    uptime_s: float = 0.0
    restarts: int = 0
    detail: str = ""
    log: tuple[str, ...] = ()
    once: bool = False


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The whole stack; `healthy` when every part runs and every `once` part is done."""

    healthy: bool
    stopping: bool
    pid: int
    started_at: float
    data_dir: str
    url: str
    parts: tuple[PartStatus, ...]
