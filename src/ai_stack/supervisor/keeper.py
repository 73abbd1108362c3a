"""Keeps one part running: starts it, waits until it is ready, and starts it again when it ends."""

import asyncio
import random
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ai_stack.errors import AIStackError, StackError
from ai_stack.supervisor import Line, Part, PartStatus, State
from ai_stack.supervisor.child import Child, Launcher
from ai_stack.supervisor.journal import Copy, Journal
from ai_stack.supervisor.probes import wait_until

FAILING_AFTER = 3


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to the next start: doubled by every crash, capped, spread by a quarter."""

    first_s: float = 0.2
    longest_s: float = 30.0
    settled_s: float = 60.0

    def pause_s(self, crashes: int) -> float:
        pause = min(self.longest_s, self.first_s * 2.0 ** min(crashes - 1, 16))
        return pause * random.uniform(0.75, 1.25)  # noqa: S311 (spread, not secrecy)


class Keeper:
    """One part's life. `ready` is set while it answers; `failure` tells why it is given up."""

    def __init__(
        self,
        part: Part,
        launcher: Launcher,
        journal: Journal,
        *,
        say: Line,
        changed: Callable[[], None],
        backoff: Backoff,
    ) -> None:
        self.part = part
        self.child: Child | None = None
        self.ready = asyncio.Event()
        self.failure = ""
        self.finished = asyncio.Event()
        self._launcher, self._journal, self._say = launcher, journal, say
        self._backoff, self._changed = backoff, changed
        self._state: State = "waiting"
        self._detail = ""
        self._began_s = time.monotonic()
        self._crashes = self._restarts = 0
        self._asked = False
        self._hurry = asyncio.Event()

    def status(self) -> PartStatus:
        troubled = self._state in ("restarting", "failing")
        pid = self._pid
        return PartStatus(
            name=self.part.name,
            state=self._state,
            pid=pid,
            uptime_s=0.0 if pid is None else round(time.monotonic() - self._began_s, 1),
            restarts=self._restarts,
            detail=self._detail,
            log=tuple(self._journal.recent_lines(10)) if troubled else (),
            once=self.part.once,
        )

    @property
    def is_well(self) -> bool:
        """Whether it answers or is done; not once its process has ended, if nobody saw it yet."""
        return self.ready.is_set() and (self.part.once or self._pid is not None)

    @property
    def _pid(self) -> int | None:
        """That of the process which runs."""
        return self.child.pid if self.child is not None and self.child.exit_status is None else None

    async def run(self, needs: Sequence["Keeper"]) -> None:
        """Until cancelled, or done for a `once` part."""
        for need in needs:
            await need.ready.wait()
        while not await self._live():
            if not self._asked:
                await self._pause()
            self._asked = False
            self._restarts += 1

    async def _live(self) -> bool:
        """One life of the process, from its preparation to its end; True when that was due."""
        try:
            status = await self._start_and_wait()
        except AIStackError as error:
            return self._crashed(error.message, final=True)
        except OSError as error:
            return self._crashed(f"cannot be started: {error}")
        except Exception:  # noqa: BLE001 (supervision: a bug in one part must not end the others)
            return self._crashed(traceback.format_exc(), final=True)
        finally:
            self.ready.clear()
        if self.part.once and status == 0:
            self.ready.set()
            self._to("done", "")
            return True
        return self._crashed(reason(status))

    async def _start_and_wait(self) -> int:
        self._to("starting", "")
        self._journal.forget()
        self._began_s = time.monotonic()
        if self.part.prepare is not None:
            await self.part.prepare(self._tool)
        if self.part.settled is not None and await self.part.settled(self._tool):
            return 0
        self.child = self._launcher.start(
            self.part.command, self.part.env, self._journal, self.part.death_signal
        )
        self._changed()
        if not self.part.once and await self._answers(self.child):
            self.ready.set()
            self.failure = ""
            self._to("running", "")
        return await self.child.wait()

    async def _answers(self, child: Child) -> bool:
        """Wait for the probe, the process's end, or the time limit, whichever is first."""
        probe = asyncio.create_task(wait_until(self.part.ready))
        end = asyncio.create_task(child.wait())
        try:
            await asyncio.wait(
                (probe, end), timeout=self.part.start_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not probe.done() and not end.done():
                self._journal.line(f"not ready after {self.part.start_s:.0f} s")
                await child.stop(signal.SIGKILL, 1.0)
            return probe.done() and not end.done()
        finally:
            probe.cancel()
            end.cancel()

    async def _tool(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        output = Copy(self._journal)
        child = self._launcher.start(command, env or {}, output)
        try:
            status = await child.wait()
        finally:
            if child.exit_status is None:
                child.kill_group()
        if status != 0:
            raise StackError(f"{command[0].rpartition('/')[2]} {reason(status)}")
        return output.text

    def _crashed(self, reason: str, *, final: bool = False) -> bool:
        if self._asked:
            self._say(f"{self.part.name} is started again")
            return False
        settled = time.monotonic() - self._began_s > self._backoff.settled_s
        self._crashes = 1 if settled else self._crashes + 1
        failing = final or self.part.once or self._crashes >= FAILING_AFTER
        self.failure = f"{self.part.name} {reason}" if failing else ""
        self._to("failing" if failing else "restarting", reason)
        return False

    async def _pause(self) -> None:
        self._hurry.clear()
        pause_s = self._backoff.pause_s(self._crashes)
        self._say(f"{self.part.name} starts again in {pause_s:.1f} s")
        try:
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def restart(self) -> None:
        """Stop the process as usual; `run` starts it again at once."""
        self._asked = True
        self.ready.clear()
        self._crashes = 0
        self._hurry.set()
        if self.child is not None:
            await self.child.stop(self.part.stop_signal, self.part.grace_s)

    async def stop(self) -> None:
        """Stop the process; call after `run` was cancelled."""
        if self.child is not None and self.child.exit_status is None:
            self._to("stopping", "")
            await self.child.stop(self.part.stop_signal, self.part.grace_s)
        if self._state != "done":
            self._to("stopped", "")
        self.finished.set()

    def _to(self, state: State, detail: str) -> None:
        changed = (state, detail) != (self._state, self._detail)
        self._state, self._detail = state, detail
        if changed:
            self._say(f"{self.part.name} {_phrase(state)}{': ' if detail else ''}{detail}")
            self._changed()


def _phrase(state: State) -> str:
    return {"restarting": "ended", "failing": "fails", "done": "is done"}.get(state, f"is {state}")


def reason(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
