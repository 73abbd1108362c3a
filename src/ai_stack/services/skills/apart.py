"""Runs a skill in a process of its own, and answers what it asks of the stack meanwhile.

The process lives for one run. It is behind the sandbox's wall, has a time, a bound on memory and
on what it writes, and is ended with all that it began when the run is over or cancelled.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Never

import psutil

from ai_stack.errors import AIStackError, SkillFailed
from ai_stack.sandbox import Sandbox
from ai_stack.services.skills.catalog import search_path
from ai_stack.settings import plain_environment
from ai_stack.skill.context import Calls, offline
from ai_stack.skill.wire import LONGEST, Order, encoded, error_json, error_of

BROKEN = "The skill's process ended without an answer; the events of its run tell what it printed."
LOOK_S, LAST_WORDS_S = 0.25, 1.0
LOG_LINES, LINE_BYTES = 200, 64 << 10
BUSY_CALLS = 16
EMPTY_BYTES = 64 << 20  # what a process has before it does anything
WRITTEN_BYTES, BLOCK_BYTES, MOST_PROCESSES = 1 << 30, 4096, 128

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Apart:
    """Processes for skills, behind a wall."""

    sandbox: Sandbox

    async def run(
        self, order: Order, time_s: float, calls: Calls = offline, said: "Log | None" = None
    ) -> dict[str, Any]:
        """What came of an order; what the skill prints meanwhile is `said`.

        Raises what the skill raised, SkillFailed for one that overran.
        """
        bounds = replace(order.confinement, walled=self.sandbox.walls)
        order = replace(order, confinement=bounds)
        ours, theirs = socket.socketpair()
        with ours:
            process = await self._start(order, theirs)
            reading = asyncio.create_task((said or Log()).read(process))
            try:
                async with asyncio.timeout(time_s):
                    return await _attended(process, ours, order, calls)
            except TimeoutError:
                raise SkillFailed(f"It was ended after {time_s:g} s, its time.") from None
            finally:
                _end(process.pid)
                await asyncio.shield(process.wait())
                await _settled(reading)

    async def _start(self, order: Order, theirs: socket.socket) -> asyncio.subprocess.Process:
        number = theirs.fileno()
        arguments = [sys.executable, "-m", "ai_stack.skill.child", str(number)]
        with theirs:
            return await asyncio.create_subprocess_exec(
                *self.sandbox.command(arguments, order.confinement),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(order),
                pass_fds=(number,),
                start_new_session=True,
                limit=LINE_BYTES,
            )


@dataclass(slots=True)
class Log:
    """The last lines that a skill printed."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    async def read(self, process: asyncio.subprocess.Process) -> None:
        """Read to the end; of a line without end only its length is bounded."""
        assert process.stdout is not None
        while data := await process.stdout.read(LINE_BYTES):
            self.lines.extend(data.decode(errors="replace").splitlines())


@dataclass(slots=True)
class Attendance:
    """One process's calls: each is answered in a task of its own, so many at once."""

    writer: asyncio.StreamWriter
    calls: Calls
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BUSY_CALLS))
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        """Answer calls until the last message, whose result is this one's."""
        while True:
            message = await _message(reader)
            if "call" not in message:
                break
            await self.room.acquire()
            task = asyncio.create_task(self._answer(message))
            self.tasks.add(task)
            task.add_done_callback(self._answered)
        if "error" in message:
            raise error_of(message["error"])
        found = message["result"]
        if not isinstance(found, dict):
            raise SkillFailed(BROKEN)
        return found

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        self.room.release()

    async def _answer(self, message: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {"answer": message["call"]}
        try:
            ability, parameters = str(message["ability"]), dict(message["parameters"])
            answer["result"] = await self.calls(ability, parameters)
        except AIStackError as error:
            answer["error"] = error_json(error)
        except Exception:  # unanswered, the skill would wait until its time ends
            log.exception("a skill's call failed unexpectedly")
            answer["error"] = error_json(AIStackError())
        with suppress(ConnectionError):
            self.writer.write(encoded(answer))
            await self.writer.drain()

    async def aclose(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.writer.close()


async def _attended(
    process: asyncio.subprocess.Process, sock: socket.socket, order: Order, calls: Calls
) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection(sock=sock, limit=LONGEST)
    writer.write(encoded({"run": asdict(order)}))
    attendance = Attendance(writer, calls)
    serving = asyncio.create_task(attendance.serve(reader))
    watching = asyncio.create_task(_watch(process.pid, order))
    try:
        done, _ = await asyncio.wait([serving, watching], return_when=asyncio.FIRST_COMPLETED)
        return (serving if serving in done else watching).result()
    finally:
        for task in (serving, watching):
            task.cancel()
        await asyncio.gather(serving, watching, return_exceptions=True)
        await attendance.aclose()


async def _watch(pid: int, order: Order) -> Never:
    """Look at memory and disk now and then; raises SkillFailed when there is too much of one.

    The run's own folders begin empty; what others hold that the skill may write is not its doing.
    """
    memory_bytes = order.confinement.memory_bytes
    own = {Path(order.folder), Path(order.scratch)}
    while True:
        await asyncio.sleep(LOOK_S)
        count, used, written = await asyncio.to_thread(_used, pid, own)
        if count > MOST_PROCESSES:
            raise SkillFailed(f"It began more than {MOST_PROCESSES} processes.")
        if used > memory_bytes + EMPTY_BYTES:
            raise SkillFailed(f"It used more than {memory_bytes >> 20} MiB, its memory.")
        if written > WRITTEN_BYTES:
            raise SkillFailed(f"It wrote more than {WRITTEN_BYTES >> 20} MiB.")


def _used(pid: int, folders: Collection[Path]) -> tuple[int, int, int]:
    """(processes, bytes of memory, bytes of files) of a run, all that it began included."""
    alive: list[psutil.Process] = []
    with suppress(psutil.Error):
        alive = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    memory = 0
    for one in alive:
        with suppress(psutil.Error):
            memory += one.memory_info().rss
    return len(alive), memory, sum(map(_written, folders))


def _written(folder: Path) -> int:
    """Bytes below a folder, an empty file counted as a block; SkillFailed where it is too deep."""
    found = 0
    try:
        for file in folder.rglob("*"):
            with suppress(FileNotFoundError):
                found += max(file.lstat().st_size, BLOCK_BYTES)
    except (OSError, RecursionError):
        raise SkillFailed("It made folders that are too deep, or closed them.") from None
    return found


async def _message(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        line = await reader.readline()
        message = json.loads(line) if line else None
    except (ValueError, OSError, RecursionError):
        raise SkillFailed(BROKEN) from None
    if not isinstance(message, dict) or not ({"call", "result", "error"} & set(message)):
        raise SkillFailed(BROKEN)
    return message


def _environment(order: Order) -> dict[str, str]:
    """The few variables that any child may see, and those that the skill is given."""
    path = os.pathsep.join(place for place in sys.path if place)
    own = {
        "PATH": search_path(),
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": order.scratch,
        "TMPDIR": order.scratch,
        "LC_ALL": "C.UTF-8",
    }
    return {**plain_environment(), **own, **order.confinement.environment}


def _end(pid: int) -> None:
    """Kill the process, its group, and what it began in groups of their own."""
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _settled(reading: "asyncio.Task[None]") -> None:
    """Let the log be read to its end; something that was left behind may keep it open."""
    await asyncio.wait([reading], timeout=LAST_WORDS_S)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
