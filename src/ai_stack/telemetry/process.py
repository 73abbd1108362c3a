"""What a process is: its memory, its descriptors, its processor time, and how late its loop is."""

import asyncio
import platform
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from ai_stack import __version__
from ai_stack.alongside import alongside
from ai_stack.telemetry.metrics import Metrics

EVERY_S = 0.25


class Own:
    """This process; `running` watches its event loop, `look` sets the gauges."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._self = metrics, psutil.Process()
        metrics.process.build.set(1, __version__, platform.python_version())
        metrics.process.started.set(self._self.create_time())

    def look(self) -> None:
        """Set the gauges to what is true now."""
        shown = self._metrics.process
        with self._self.oneshot():
            used = self._self.cpu_times()
            shown.cpu.set(used.user + used.system)
            shown.memory.set(self._self.memory_info().rss)
            shown.descriptors.set(self._self.num_fds())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure by how much a timer is late, for as long as the block lasts."""
        async with alongside(self._watch()):
            yield

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._metrics.process.lag.observe(max(0.0, time.perf_counter() - due))
