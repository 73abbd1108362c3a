"""The supervisor: all keepers of one stack, started by need and stopped in reverse."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ai_stack.errors import StackError
from ai_stack.supervisor import Line, Part, PartStatus, StackStatus, control, leftovers
from ai_stack.supervisor.child import Launcher
from ai_stack.supervisor.journal import Journal
from ai_stack.supervisor.keeper import Backoff, Keeper

RESTART_S = 240.0


class StartFailed(StackError):
    """A part did not start; `parts` tells which, with its last lines."""

    def __init__(self, message: str, parts: Sequence[PartStatus]) -> None:
        super().__init__(message)
        self.parts = tuple(parts)


class Supervisor:
    """Runs the parts of one data folder, whose lock the caller holds."""

    def __init__(
        self,
        parts: Sequence[Part],
        launcher: Launcher,
        *,
        data: Path,
        runtime: Path,
        url: str,
        say: Line,
        backoff: Backoff | None = None,
    ) -> None:
        self.data, self.runtime, self.url = data, runtime, url
        self.again = False
        self.healthy = asyncio.Event()
        self._stop, self._attention = asyncio.Event(), asyncio.Event()
        self._started_at = time.time()
        self._tell = say
        self._recorded: list[tuple[int, int]] = []
        self._own_log = Journal(data / "logs" / "supervisor.log")
        journals: dict[str, Journal] = {}
        for part in parts:
            path = data / "logs" / part.log_name
            journals.setdefault(part.log_name, Journal(path))
        self.keepers = {
            part.name: Keeper(
                part,
                launcher,
                journals[part.log_name],
                say=self._say,
                changed=self._changed,
                backoff=backoff or Backoff(),
            )
            for part in parts
        }

    async def run(self) -> None:
        """Until `stop`; raises StartFailed when a part does not start in the first place."""
        await self._end_leftovers()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        tasks = [asyncio.create_task(control.serve(self, self.runtime))]
        tasks += [asyncio.create_task(self._keep(keeper)) for keeper in self.keepers.values()]
        try:
            await self._until_stopped()
        finally:
            for task in tasks[1:]:
                await _cancel(task)
            await self._stop_all()
            await _cancel(tasks[0])
            self._say("the stack has stopped")
            (self.runtime / control.SOCKET).unlink(missing_ok=True)
            self._record()

    def status(self) -> StackStatus:
        return StackStatus(
            healthy=all(keeper.is_well for keeper in self.keepers.values()),
            stopping=self._stop.is_set(),
            pid=os.getpid(),
            started_at=self._started_at,
            data_dir=str(self.data),
            url=self.url,
            parts=tuple(keeper.status() for keeper in self.keepers.values()),
        )

    def stop(self, *, again: bool = False) -> None:
        """Ask `run` to stop everything; `again`: its caller is to start anew afterwards."""
        self.again = again
        self._stop.set()
        self._attention.set()

    async def restart(self, name: str) -> None:
        """Stop and start one part, and return when it is ready."""
        found = [k for k in self.keepers.values() if k.part.answers_to(name) and not k.part.once]
        if not found:
            names = ", ".join(k.part.name for k in self.keepers.values() if not k.part.once)
            raise StackError(f"There is no part {name}; there are {names}.")
        await found[0].restart()
        try:
            async with asyncio.timeout(RESTART_S):
                await found[0].ready.wait()
        except TimeoutError:
            raise StackError(f"{name} is not ready yet; see `ai-stack logs {name}`.") from None

    async def _keep(self, keeper: Keeper) -> None:
        needs = [self.keepers[name] for name in keeper.part.needs]
        await keeper.run(needs)

    async def _until_stopped(self) -> None:
        await self._attention.wait()
        failed = [keeper for keeper in self.keepers.values() if keeper.failure]
        if failed and not self._stop.is_set():
            self._stop.set()
            message = "; ".join(keeper.failure for keeper in failed)
            raise StartFailed(message, [keeper.status() for keeper in failed])

    def _changed(self) -> None:
        """A part changed: keep the record of children; until all is healthy, a failure ends it."""
        self._record()
        if self.healthy.is_set():
            return
        if any(keeper.failure for keeper in self.keepers.values()):
            self._attention.set()
        elif self.status().healthy:
            self.healthy.set()
            took_s = time.time() - self._started_at
            self._say(f"the stack is healthy after {took_s:.1f} s at {self.url}")

    def _record(self) -> None:
        living = [
            (keeper.child.pid, int(keeper.part.stop_signal))
            for keeper in self.keepers.values()
            if keeper.child is not None and keeper.child.exit_status is None
        ]
        if living != self._recorded:
            self._recorded = living
            leftovers.record(self.data / "children.json", living)

    async def _end_leftovers(self) -> None:
        ended = await leftovers.end(self.data / "children.json", self.data)
        if ended:
            self._say(f"ended {len(ended)} processes that a killed supervisor left")

    async def _stop_all(self) -> None:
        """Each part once all that need or use it have ended."""
        await asyncio.gather(*(self._stop_part(keeper) for keeper in self.keepers.values()))

    async def _stop_part(self, keeper: Keeper) -> None:
        for other in self.keepers.values():
            if keeper.part.name in (*other.part.needs, *other.part.uses):
                await other.finished.wait()
        await keeper.stop()

    def _say(self, text: str) -> None:
        self._own_log.line(text)
        self._tell(text)


async def _cancel(task: "asyncio.Task[object]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
