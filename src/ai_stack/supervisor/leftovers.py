"""Children of a supervisor that died: recorded while they live, found and ended afterwards.

The kernel signals them when their supervisor dies; this waits for them to be gone, since a
PostgreSQL that is still shutting down would refuse its successor.
"""

import asyncio
import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ai_stack.settings import SUPERVISED

GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process by pid and start time, so that another one with its pid is not taken for it."""

    pid: int
    started: str
    stop_signal: int = signal.SIGTERM

    @property
    def alive(self) -> bool:
        return bool(self.started) and start_time(self.pid) == self.started


def start_time(pid: int) -> str:
    """Boot and tick at which a process began; empty when there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def record(file: Path, children: Iterable[tuple[int, int]]) -> None:
    """Write down (pid, stop signal) of all children; a full disk only costs the record."""
    rows = [[pid, start_time(pid), number] for pid, number in children]
    new = file.with_suffix(".new")
    with suppress(OSError):
        new.write_text(json.dumps(rows))
        new.replace(file)


async def end(file: Path, data: Path, grace_s: float = GRACE_S) -> list[int]:
    """End what a former supervisor of this data folder left; returns the pids."""
    found = {child.pid: child for child in (*_recorded(file), *marked(data)) if child.alive}
    for child in found.values():
        _send(child, child.stop_signal)
    try:
        async with asyncio.timeout(grace_s):
            await _gone(found.values())
    except TimeoutError:
        for child in found.values():
            _send(child, signal.SIGKILL)
        await _gone(found.values())
    return list(found)


def _recorded(file: Path) -> Iterator[Leftover]:
    try:
        rows = json.loads(file.read_text())
    except (OSError, ValueError):
        return
    for pid, started, number in rows:
        yield Leftover(int(pid), str(started), int(number))


def marked(data: Path) -> Iterator[Leftover]:
    """Whoever carries the mark of this data folder, grandchildren included."""
    mark = f"{SUPERVISED}={data}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield Leftover(int(entry.name), start_time(int(entry.name)))


def _send(child: Leftover, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if child.alive:
            os.kill(child.pid, number)
            os.kill(child.pid, signal.SIGCONT)


async def _gone(children: Iterable[Leftover]) -> None:
    while any(child.alive for child in children):  # noqa: ASYNC110 (not our children)
        await asyncio.sleep(0.02)
