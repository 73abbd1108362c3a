"""One child process: its own process group, its output piped into a journal, its end awaited."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ai_stack.supervisor.account import Account
from ai_stack.supervisor.privileges import on_exec

READ_BYTES = 1 << 16


class Sink(Protocol):
    """Takes what a child writes, as a Journal does."""

    def write(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts children as the account, in a folder, with one environment."""

    account: Account
    folder: Path
    env: Mapping[str, str]

    def start(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        journal: Sink,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> "Child":
        read, write = os.pipe()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                cwd=self.folder,
                env={**self.env, **env},
                process_group=0,
                preexec_fn=on_exec(death_signal, self.account.drop, self.account.keep_reading),
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        return Child(process, read, journal)


class Child:
    """A running process. No thread waits for it: the loop watches its pidfd and its pipe."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: int, journal: Sink) -> None:
        self._process = process
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._output: int | None = output
        os.set_blocking(output, False)
        self._loop.add_reader(output, self._read)
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """The exit status, negative for a signal."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        if not self._ended.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def stop(self, number: signal.Signals, grace_s: float) -> None:
        """Ask by a signal, then kill the whole group."""
        self.send(number)
        self.send(signal.SIGCONT)
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
        except TimeoutError:
            self.kill_group()
            await self.wait()

    def kill_group(self) -> None:
        """End what is left of the process group, the leader included."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        status = self._process.poll()
        if status is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.kill_group()
        self._drain()
        self._ended.set_result(status)

    def _drain(self) -> None:
        while self._output is not None and self._read():
            pass
        self._close_output()

    def _read(self) -> bool:
        """Move what the pipe holds to the journal; False when there is nothing now."""
        assert self._output is not None
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._journal.write(data)
        else:
            self._close_output()
        return bool(data)

    def _close_output(self) -> None:
        if self._output is not None:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = None
