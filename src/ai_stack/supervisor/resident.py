"""One model in memory: its llama.cpp server from the start to the end, and what it does."""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import orjson

from ai_stack.errors import EngineFailed
from ai_stack.supervisor import NotReady, llama_cpp, probes
from ai_stack.supervisor.child import Child, Launcher
from ai_stack.supervisor.llama_cpp import Load
from ai_stack.supervisor.ports import HOST

LOADING_S = 1800.0
GRACE_S = 5.0
JUST_ASKED_S = 0.5
KEPT_LINES = 200
LINE_BYTES = 16 << 10


class Transcript:
    """Passes a server's output on to the part's log and keeps the last lines.

    Each line gets the time and the model's name, unless the process writes them itself.
    """

    def __init__(self, model: str, *, stamped: bool = True, output: int = 2) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._model, self._stamped, self._output = model, stamped, output
        self._rest = b""

    def write(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            whole, self._rest = [*whole, self._rest], b""
        for line in whole:
            self._line(line.decode(errors="replace"))

    def _line(self, text: str) -> None:
        self.lines.append(text)
        stamp = datetime.now(UTC).isoformat(" ", "milliseconds")
        head = f"{stamp} {self._model}: " if self._stamped else ""
        with suppress(OSError):
            os.write(self._output, f"{head}{text}\n".encode())


class Resident:
    """A model's server; `ended` is called with it when its process ended unasked.

    `estimate_bytes` is what it takes in all, the weights included.
    """

    def __init__(
        self,
        load: Load,
        *,
        estimate_bytes: int,
        ended: Callable[["Resident"], None],
    ) -> None:
        self.load = load
        self.estimate_bytes = estimate_bytes
        self.state: Literal["loading", "ready"] = "loading"
        self.began_s = self.used_s = time.monotonic()
        self.last_used = time.time()
        self.child: Child | None = None
        self._transcript = Transcript(load.model)
        self._ended = ended
        self._tasks: list[object] = []
        self._watch: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.load.port}"

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.began_s

    @property
    def unused_s(self) -> float:
        return time.monotonic() - self.used_s

    def reserved_bytes(self) -> int:
        """What it needs of the memory that the kernel still calls available.

        Weights are mapped from their file, so the kernel would give their memory away.
        """
        return max(0, self.estimate_bytes - _taken_bytes(self.child))

    def touch(self) -> None:
        self.used_s, self.last_used = time.monotonic(), time.time()

    async def start(self, launcher: Launcher, command: Sequence[str]) -> None:
        """Start its server; returns when it answers. Raises EngineFailed when it does not."""
        self.child = launcher.start(command, {}, self._transcript)
        probe = asyncio.create_task(probes.wait_until(probes.http(HOST, self.load.port, "/health")))
        end = asyncio.create_task(self.child.wait())
        try:
            done, _ = await asyncio.wait(
                (probe, end), timeout=LOADING_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            probe.cancel()
            end.cancel()
        if end in done or probe not in done:
            late = f"it does not answer after {LOADING_S:.0f} s."
            reason = self.trouble() if end in done else late
            await self.stop()
            raise EngineFailed(f"{self.load.model} could not be loaded: {reason}")
        self._watch = asyncio.create_task(self._await_end(self.child))
        self._tasks = _numbers(await self._slots())
        self.state = "ready"
        self.touch()

    async def _await_end(self, child: Child) -> None:
        await child.wait()
        self._ended(self)

    def trouble(self) -> str:
        """Why its server ended, from how it ended and the last lines that it wrote."""
        status = self.child.exit_status if self.child is not None else None
        told = llama_cpp.trouble(self._transcript.lines)
        if status is None:
            return told
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        return f"llama.cpp ended with {how}{': ' if told else ''}{told}."

    async def busy(self) -> bool:
        """Whether it works, or was asked just now; a server too busy to tell is busy.

        Work that came past the gateway, which nobody told, counts as use as well.
        """
        if self.state == "loading" or self.unused_s < JUST_ASKED_S:
            return True
        slots = await self._slots()
        if _numbers(slots) != self._tasks:
            self._tasks = _numbers(slots)
            self.touch()
        return any(slot.get("is_processing") for slot in slots)

    async def _slots(self) -> list[dict[str, object]]:
        port = self.load.port
        head = f"GET /slots HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
        try:
            status, body = await probes.fetch(HOST, port, head.encode())
            found = orjson.loads(body) if status == 200 else []
        except (NotReady, orjson.JSONDecodeError):
            return [{"is_processing": True}]
        return found if isinstance(found, list) else []

    async def stop(self) -> None:
        """End its server; that is no crash."""
        if self._watch is not None:
            self._watch.cancel()
        if self.child is not None:
            await self.child.stop(signal.SIGTERM, GRACE_S)


def _numbers(slots: Sequence[dict[str, object]]) -> list[object]:
    """The number of each slot's last task, by which one sees that it had work."""
    return [slot.get("id_task") for slot in slots]


def _taken_bytes(child: Child | None) -> int:
    """Memory that the process has for itself, the mapped weights aside."""
    if child is None:
        return 0
    try:
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)
