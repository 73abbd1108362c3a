"""How a running stack looks on a terminal: a live table, or plain lines where there is none."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from ai_stack.supervisor import PartStatus, StackStatus
from ai_stack.supervisor.supervisor import Supervisor

REFRESH_S = 0.25
SAID_LINES = 6
MARKS = {
    "running": "●",
    "done": "●",
    "starting": "◐",
    "stopping": "◐",
    "waiting": "○",
    "stopped": "○",
}


class Display(Protocol):
    """Shows what the supervisor says and what its parts do."""

    def say(self, text: str) -> None: ...

    async def watch(self, supervisor: Supervisor) -> None: ...

    def close(self) -> None: ...


class PlainDisplay:
    """One line for each thing that happens; a reader that left is no reason to stop."""

    def say(self, text: str) -> None:
        with suppress(OSError):
            print(f"{datetime.now(UTC).astimezone():%H:%M:%S} {text}", flush=True)

    async def watch(self, supervisor: Supervisor) -> None:
        """Nothing to redraw."""

    def close(self) -> None:
        """Nothing to restore."""


class LiveDisplay:
    """A table that redraws itself, and the last things said under it."""

    def __init__(self) -> None:
        from rich.live import Live  # noqa: PLC0415 (a stack without a terminal spares its memory)

        self._said: list[str] = []
        self._live = Live(auto_refresh=False)  # its refreshing thread would be forked along

    def say(self, text: str) -> None:
        self._said = [*self._said, text][-SAID_LINES:]

    async def watch(self, supervisor: Supervisor) -> None:
        from rich.text import Text  # noqa: PLC0415

        self._live.start()
        while True:
            lines = [table_of(supervisor.status()), "", *self._said, "", "Ctrl-C stops the stack."]
            self._live.update(Text("\n".join(lines)), refresh=True)
            await asyncio.sleep(REFRESH_S)

    def close(self) -> None:
        self._live.stop()


def table_of(stack: StackStatus) -> str:
    """The stack and its parts as aligned text, with the last log lines of parts in trouble."""
    word = "stopping" if stack.stopping else "healthy" if stack.healthy else "not healthy yet"
    lines = [f"AI Stack is {word} · {stack.url} · {stack.data_dir}", ""]
    for part in stack.parts:
        if not part.once or part.state in ("starting", "restarting", "failing"):
            lines += [_row(part), *(f"      {line}" for line in part.log)]
    return "\n".join(lines)


def _row(part: PartStatus) -> str:
    pid = str(part.pid or "")
    restarts = f"restarted {part.restarts}×" if part.restarts else ""
    mark = MARKS.get(part.state, "✗")
    facts = f"{part.state:10} {pid:>8} {_uptime(part.uptime_s):>8}  {restarts}  {part.detail}"
    return f"  {mark} {part.name:10} {facts}".rstrip()


def _uptime(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
