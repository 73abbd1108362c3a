"""Several processes that are one gateway: started, kept, replaced one by one, ended together.

Each slot has sockets of its own under SO_REUSEPORT, so that the kernel spreads connections over
them; one shared socket would give most to whoever is awake. The parent holds all of these open and
accepts on none: what waits in a slot's queue goes to the process that takes the place of another.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ai_stack.errors import StackError
from ai_stack.models.seat import Seat
from ai_stack.settings import Settings
from ai_stack.supervisor.keeper import Backoff, reason
from ai_stack.supervisor.privileges import on_exec

START_S, SPARE_S = 120.0, 5.0
BACKLOG = 2048

log = logging.getLogger(__name__)


class Process:
    """One process in a slot; it has answered when `ready` is set, and ended when `ended` is done.

    It dies with its parent, whatever kills that.
    """

    def __init__(self, command: list[str], seat: Seat, said: int) -> None:
        """`said` is the end to hear it by of the pipe whose other end the seat names."""
        self._loop = asyncio.get_running_loop()
        self.began_s, self.ready = time.monotonic(), asyncio.Event()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._said: int | None = said
        self._process = subprocess.Popen(
            [*command, "--seat", seat.text()],
            pass_fds=(*seat.listeners, seat.ready),
            preexec_fn=on_exec(signal.SIGKILL, None, False),
        )
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        self._loop.add_reader(said, self._hear)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def answers(self) -> bool:
        """Wait until it is ready, or ends, or has had its time, after which it is killed."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait((ready, self.ended), timeout=START_S, return_when="FIRST_COMPLETED")
        ready.cancel()
        if not self.ready.is_set() and not self.ended.done():
            log.error("the process %d is not ready after %g s", self.pid, START_S)
            self.send(signal.SIGKILL)
        return self.ready.is_set() and not self.ended.done()

    def send(self, number: signal.Signals) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _hear(self) -> None:
        if self._said is not None:
            if os.read(self._said, 1):
                self.ready.set()
            self._hang_up()

    def _hang_up(self) -> None:
        if self._said is not None:
            self._loop.remove_reader(self._said)
            os.close(self._said)
            self._said = None

    def _reap(self) -> None:
        status = self._process.poll()
        if status is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._hang_up()
            self.ended.set_result(status)


@dataclass(eq=False)
class Slot:
    """A place on the port, which outlasts the processes in it."""

    number: int
    listeners: list[socket.socket] = field(default_factory=list)
    process: Process | None = None
    crashes: int = 0
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def open(self, host: str, port: int) -> None:
        """Have a place on the port; its process is the first to listen there, once it is ready."""
        if not self.listeners:
            self.listeners = list(_bound(host, port, shared=True))

    def close(self) -> None:
        """Take no connections: the kernel gives them to the others."""
        for listener in self.listeners:
            listener.close()
        self.listeners = []


class Crew:
    """So many processes of the gateway on one port."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._slots = [Slot(number) for number in range(1, settings.workers + 1)]
        self._leaving: set[Process] = set()
        self._stop, self._renew = asyncio.Event(), asyncio.Event()
        self._backoff = Backoff()

    async def run(self) -> int:
        """Until SIGTERM or SIGINT; SIGHUP replaces one after the other. The exit status.

        Raises StackError for a port that is taken.
        """
        self._listen()
        try:
            if not await self._begin():
                return await self._failure()
            tasks = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
            tasks.append(asyncio.create_task(self._keep_renewing()))
            await self._stop.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return 0
        finally:
            await self._end()

    def _listen(self) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._renew.set)
        for trial in _bound(settings.host, settings.port, shared=False):
            trial.close()  # nobody else has the port: two crews could share it unseen
        for slot in self._slots:
            slot.open(settings.host, settings.port)
        for listener in self._slots[0].listeners:
            listener.listen(BACKLOG)  # so that nobody else takes the port meanwhile

    def stop(self) -> None:
        """Finish what is under way and end; told again, end."""
        again = self._stop.is_set()
        self._stop.set()
        for process in self._living() if again else ():
            process.send(signal.SIGINT)

    async def _begin(self) -> bool:
        """Start the first, then all others at once: what is wrong is then told once."""
        first, *others = self._slots
        if not await self._started(first):
            return False
        await asyncio.gather(*(self._started(slot) for slot in others))
        log.info("%d processes answer on port %d", len(self._slots), self._settings.port)
        return True

    async def _failure(self) -> int:
        process = self._slots[0].process
        if self._stop.is_set() or process is None:
            return 0 if self._stop.is_set() else 1
        return max(await process.ended, 1)

    async def _started(self, slot: Slot) -> bool:
        """Start a process in a slot; whether it answers."""
        made = self._process(slot)
        if made is None:
            return False
        slot.process = made
        answers = asyncio.create_task(made.answers())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((answers, stopped), return_when="FIRST_COMPLETED")
        stopped.cancel()
        return answers.done() and answers.result()

    def _process(self, slot: Slot) -> Process | None:
        """A process that starts; None, and told, where there cannot be one now."""
        said, ready = os.pipe()
        try:
            slot.open(self._settings.host, self._settings.port)
            listeners = tuple(listener.fileno() for listener in slot.listeners)
            seat = Seat(slot.number, listeners, ready, self._folder)
            return Process(self._command(), seat, said)
        except (OSError, StackError) as error:
            os.close(said)
            log.error("process %d of the gateway cannot be started: %s", slot.number, error)
            return None
        finally:
            os.close(ready)

    def _command(self) -> list[str]:
        place = ("--host", self._settings.host, "--port", str(self._settings.port))
        return [sys.executable, "-m", "ai_stack", "serve", *place]

    async def _keep(self, slot: Slot) -> None:
        """Start a process again whenever one ends that has not been replaced."""
        while True:
            process = slot.process
            assert process is not None
            status = await asyncio.shield(process.ended)
            async with slot.changing:
                if slot.process is process:
                    await self._again(slot, status)

    async def _again(self, slot: Slot, status: int) -> None:
        assert slot.process is not None
        settled = time.monotonic() - slot.process.began_s > self._backoff.settled_s
        slot.crashes = 1 if settled else slot.crashes + 1
        pause_s = self._backoff.pause_s(slot.crashes)
        told = "process %d of the gateway %s; it starts again in %.1f s"
        log.error(told, slot.number, reason(status), pause_s)
        slot.close()
        await asyncio.sleep(pause_s)
        if await self._started(slot):
            log.info("process %d of the gateway answers again", slot.number)

    async def _keep_renewing(self) -> None:
        while True:
            await self._renew.wait()
            self._renew.clear()
            for slot in self._slots:
                async with slot.changing:
                    if not await self._replaced(slot):
                        log.error("the other processes of the gateway stay as they are")
                        break
            else:
                log.info("all processes of the gateway have been replaced")

    async def _replaced(self, slot: Slot) -> bool:
        """Put another process in a slot; the one there leaves once the other answers."""
        made = self._process(slot)
        if made is None:
            return False
        self._leaving.add(made)  # so that it ends with the others, whatever comes
        if not await made.answers():
            status = await made.ended
            self._leaving.discard(made)
            log.error("a new process %d of the gateway %s", slot.number, reason(status))
            return False
        self._leaving.discard(made)
        before, slot.process, slot.crashes = slot.process, made, 0
        if before is not None and not before.ended.done():
            self._leaving.add(before)
            before.ended.add_done_callback(lambda _: self._leaving.discard(before))
            before.send(signal.SIGUSR1)
        return True

    def _living(self) -> list[Process]:
        known = [slot.process for slot in self._slots if slot.process is not None]
        return [one for one in (*known, *self._leaving) if not one.ended.done()]

    async def _end(self) -> None:
        """Have all end, and kill those that do not in time."""
        living = self._living()
        for process in living:
            process.send(signal.SIGTERM)
        if living:
            settings = self._settings
            grace_s = settings.drain_s + settings.shutdown_grace_s + SPARE_S
            await asyncio.wait([process.ended for process in living], timeout=grace_s)
        for process in living:
            process.send(signal.SIGKILL)
            await process.ended
        for slot in self._slots:
            slot.close()


def serve(settings: Settings) -> int:
    """Run the gateway in as many processes as the settings say; the exit status."""
    with _folder() as folder:
        return asyncio.run(_serve(settings, folder))


async def _serve(settings: Settings, folder: Path) -> int:
    return await Crew(settings, folder).run()


@contextmanager
def _folder() -> Iterator[Path]:
    # short, since a socket's path is limited to 107 bytes
    made = Path(tempfile.mkdtemp(prefix="ai-stack-", dir="/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _bound(host: str, port: int, *, shared: bool) -> Iterator[socket.socket]:
    """A socket for each address of a host; StackError for one that is taken."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in dict.fromkeys(found):
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
        except OSError as error:
            listener.close()
            raise StackError(f"Port {port} of {host}: {error.strerror}.") from None
        listener.setblocking(False)
        yield listener
