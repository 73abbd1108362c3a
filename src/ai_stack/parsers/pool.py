"""The pool of worker processes that read files; one bad file harms no other.

These are the one exception to the rule that only the supervisor starts processes: they live
for some files, end when idle, and die with their parent.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.errors import (
    AIStackError,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unavailable,
    Unsupported,
)
from ai_stack.parsers import Limits, Parsed
from ai_stack.parsers.pipe import FRAME, NO_MEMORY, encode

FILES_EACH = 500
RAISED = {kind.code: kind for kind in (InvalidRequest, NotFound, TooLarge, Unsupported)}


class ParserPool:
    """Reads files in at most `workers` processes, started when needed.

    Each file has `timeout_s` (wall and processor time) and each worker `memory_bytes` of
    address space above its own; `idle_s` after its last file a worker ends.
    """

    def __init__(
        self,
        workers: int = 2,
        timeout_s: float = 60.0,
        memory_bytes: int = 1 << 30,
        *,
        limits: Limits | None = None,
        idle_s: float = 30.0,
    ) -> None:
        self._limits = limits or Limits()
        self._timeout_s, self._memory_bytes, self._idle_s = timeout_s, memory_bytes, idle_s
        self._room = asyncio.Semaphore(workers)
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The worker processes that are alive."""
        workers = (*self._idle, *self._busy)
        return [w.process.pid for w in workers if w.process.returncode is None]

    async def parse(
        self,
        name: str,
        source: Path | bytes,
        media_type: str | None = None,
        charset: str | None = None,
    ) -> Parsed:
        """The text of a file, given by its path or its bytes; `name` has its extension.

        Raises Unsupported, InvalidRequest (damaged, or no text in it) or TooLarge (size, time
        or memory), each with a sentence for the person who gave the file.
        """
        path = str(source.absolute()) if isinstance(source, Path) else None
        header = {
            "name": name,
            "path": path,
            "media_type": media_type,
            "charset": charset,
            "expanded_bytes": self._limits.expanded_bytes,
            "text_bytes": self._limits.text_bytes,
        }
        async with self._room:
            return await self._read(header, b"" if isinstance(source, Path) else source)

    async def _read(self, header: Mapping[str, object], body: bytes) -> Parsed:
        try:
            return await self._asked(await self._taken(), header, body)
        except ConnectionResetError:  # one that served before died: its state or this file
            return await self._asked(await self._fresh(), header, body)

    async def _asked(self, worker: "Worker", header: Mapping[str, object], body: bytes) -> Parsed:
        keep = False
        try:
            async with asyncio.timeout(self._timeout_s):
                parsed = await worker.ask(header, body)
            keep = worker.peak_bytes < self._memory_bytes // 2
            return parsed
        except TimeoutError:
            raise TooLarge(f"Reading this file took longer than {self._timeout_s:g} s.") from None
        except AIStackError:
            keep = worker.usable
            raise
        finally:
            await self._returned(worker, keep)

    async def _taken(self) -> "Worker":
        if self._closed:
            raise Unavailable("The stack is stopping.")
        while self._idle:
            worker = self._idle.pop()
            worker.stop_expiry()
            if worker.alive:
                self._busy.add(worker)
                return worker
        return await self._fresh()

    async def _fresh(self) -> "Worker":
        worker = await Worker.start(self._memory_bytes, self._timeout_s)
        self._busy.add(worker)
        return worker

    async def _returned(self, worker: "Worker", keep: bool) -> None:
        self._busy.discard(worker)
        if keep and worker.usable and worker.files < FILES_EACH and not self._closed:
            self._idle.append(worker)
            worker.expire(self._idle_s, lambda: self._expired(worker))
        else:
            await worker.end()

    def _expired(self, worker: "Worker") -> None:
        with suppress(ValueError):
            self._idle.remove(worker)
        worker.close_input()

    async def aclose(self) -> None:
        """End all workers; a file being read is given up."""
        self._closed = True
        for worker in (*self._idle, *self._busy):
            await worker.end()
        self._idle.clear()


@dataclass(eq=False)
class Worker:
    """One process; `ask` raises ConnectionResetError when it dies at a later file than its first.

    `usable` until it fails, `peak_bytes` the most memory it has had.
    """

    process: asyncio.subprocess.Process
    files: int = 0
    peak_bytes: int = 0
    usable: bool = True
    _expiry: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, memory_bytes: int, timeout_s: float) -> "Worker":
        """Start a process that inherits neither the environment nor its secrets."""
        command = (sys.executable, "-m", "ai_stack.parsers.child")
        options = ("--memory", str(memory_bytes), "--cpu", str(timeout_s))
        path = os.pathsep.join(filter(None, sys.path))
        process = await asyncio.create_subprocess_exec(
            *command,
            *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": path, "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        return self.usable and self.process.returncode is None

    async def ask(self, header: Mapping[str, object], body: bytes) -> Parsed:
        """One file's text; the worker is usable again only if it answered."""
        self.usable = False
        self.files += 1
        try:
            reply, data = await self._exchange(header, body)
        except (OSError, asyncio.IncompleteReadError):
            if self.files > 1:
                raise ConnectionResetError from None
            raise await self._cause() from None
        self.usable = not reply.get("last")
        if "error" in reply:
            raise RAISED.get(reply["code"], InvalidRequest)(reply["error"])
        self.peak_bytes = reply["peak_bytes"]
        return Parsed(data.decode(), reply["title"], reply["metadata"], reply["language"])

    async def _exchange(
        self, header: Mapping[str, object], body: bytes
    ) -> tuple[dict[str, Any], bytes]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(encode(header, body))
        await self.process.stdin.drain()
        head = await self.process.stdout.readexactly(FRAME.size)
        header_size, body_size = FRAME.unpack(head)
        reply: dict[str, Any] = json.loads(await self.process.stdout.readexactly(header_size))
        return reply, await self.process.stdout.readexactly(body_size)

    async def _cause(self) -> AIStackError:
        """Why the process died, as its exit tells."""
        code = await self.process.wait()
        if code == -signal.SIGXCPU:
            return TooLarge("Reading this file took too much processor time.")
        if code in (-signal.SIGABRT, -signal.SIGKILL, 1):
            return TooLarge(NO_MEMORY)
        return InvalidRequest("This file cannot be read: it made its reader fail.")

    def expire(self, after_s: float, then: Callable[[], None]) -> None:
        self._expiry = asyncio.get_running_loop().call_later(after_s, then)

    def stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()

    def close_input(self) -> None:
        """Let the process end by itself."""
        self.usable = False
        if self.process.stdin is not None:
            self.process.stdin.close()

    async def end(self) -> None:
        """Kill the process and wait for its end."""
        self.stop_expiry()
        self.usable = False
        with suppress(ProcessLookupError):
            self.process.kill()
        await asyncio.shield(self.process.wait())
