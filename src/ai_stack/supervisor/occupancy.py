"""Which models are in memory: who is let in, who makes room, and what became of those that failed.

A model has at most one server. Of those that have no work, the one that was used longest ago
makes room, for its place or for its memory.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ai_stack.errors import (
    AIStackError,
    EngineFailed,
    EngineUnavailable,
    ModelTooLarge,
    StackError,
    TooBusy,
)
from ai_stack.settings import Settings
from ai_stack.supervisor import llama_cpp
from ai_stack.supervisor.child import Launcher
from ai_stack.supervisor.keeper import Backoff
from ai_stack.supervisor.llama_cpp import Load
from ai_stack.supervisor.machine import Free, Machine
from ai_stack.supervisor.ports import Ports
from ai_stack.supervisor.resident import Resident
from ai_stack.weights import fit
from ai_stack.weights.shelf import Model

ROOM_S = 60.0
POLL_S = 0.1
SHORT_PAUSE_S, SETTLED_S = 1.0, 60.0

log = logging.getLogger("ai_stack.models")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a model's server failed, and from when on (monotonic) it may be started again."""

    message: str
    crashes: int
    until_s: float


class Occupancy:
    """The models that are loaded or being loaded, by id; `failures` are those of the others."""

    def __init__(
        self,
        settings: Settings,
        launcher: Launcher,
        machine: Machine,
        ports: Ports,
        *,
        crashed: Callable[[str], None],
        backoff: Backoff | None = None,
    ) -> None:
        self.residents: dict[str, Resident] = {}
        self.failures: dict[str, Failure] = {}
        self._settings, self._launcher, self._machine = settings, launcher, machine
        self._ports, self._crashed = ports, crashed
        self._backoff = backoff or Backoff()
        self._loading: dict[str, asyncio.Task[Resident]] = {}
        self._room = asyncio.Lock()

    def context_length(self, model: Model) -> int:
        """Tokens of context for one request: as set, and no more than it was trained for."""
        wanted = self._settings.llama_cpp_ctx_size
        return min(wanted, model.context_length or wanted)

    def estimate(self, model: Model) -> fit.Estimate:
        context = self.context_length(model)
        batch = llama_cpp.batch(model.kind, context, self._settings)
        return fit.estimate(
            model,
            context,
            self._settings.llama_cpp_web_concurrency,
            self._settings.llama_cpp_cache_type,
            fit.MICRO_BATCH if model.kind == "generation" else batch,
        )

    async def serve(self, model: Model, *, first: bool = False) -> Resident:
        """The model's server, ready; callers at the same time share one load.

        `first`: it gets the port that is set, and no other. Raises ModelTooLarge, TooBusy when
        nobody makes room in time, StackError when that port is taken, and EngineFailed or
        EngineUnavailable for a server that fails.
        """
        found = self.residents.get(model.id)
        if found is not None and found.state == "ready":
            found.touch()
            return found
        task = self._loading.get(model.id)
        if task is None:
            task = self._loading[model.id] = asyncio.create_task(self._start(model, first))
            task.add_done_callback(lambda done: self._loaded(model.id, done))
        return await asyncio.shield(task)

    async def stop(self, id: str) -> None:
        """Unload a model, whatever it does, and forget how it failed."""
        if (task := self._loading.get(id)) is not None:
            task.cancel()
            await asyncio.wait([task])
        if (resident := self.residents.get(id)) is not None:
            await self._unload(resident, "it was stopped")
        self.failures.pop(id, None)

    async def stop_all(self) -> None:
        await asyncio.gather(*(self.stop(id) for id in {*self.residents, *self._loading}))

    async def unload_idle(self, idle_s: float) -> None:
        """Unload what has had no use for so long, also none that went past the gateway."""
        for resident in list(self.residents.values()):
            busy = resident.unused_s <= idle_s or await resident.busy()
            if not busy and resident.unused_s > idle_s and self._holds(resident):
                await self._unload(resident, f"it had no work for {idle_s:.0f} s")

    def _loaded(self, id: str, task: "asyncio.Task[Resident]") -> None:
        del self._loading[id]
        if not task.cancelled():
            task.exception()  # seen, also when all who waited have left

    def _holds(self, resident: Resident) -> bool:
        return self.residents.get(resident.load.model) is resident

    async def _start(self, model: Model, first: bool) -> Resident:
        await self._pause(model.id)
        began_s = time.monotonic()
        try:
            resident = await self._admitted(model, first)
            log.info("%s is being loaded from %s", model.id, model.file)
            await self._started(resident)
        except (EngineFailed, ModelTooLarge, StackError) as error:
            self._failed(model.id, error, 0.0)
            raise
        log.info("%s: ready at %s, %.1f s", model.id, resident.url, time.monotonic() - began_s)
        return resident

    async def _pause(self, id: str) -> None:
        """Not again at once what has just failed: wait a short pause, refuse during a long one."""
        failure = self.failures.get(id)
        if failure is None:
            return
        left_s = failure.until_s - time.monotonic()
        if left_s > SHORT_PAUSE_S:
            raise EngineUnavailable(f"{failure.message} It is started again in {left_s:.0f} s.")
        await asyncio.sleep(left_s)

    async def _admitted(self, model: Model, first: bool) -> Resident:
        """A place for the model, taken at once; its server is still to be started."""
        async with self._room:
            device = self._device()
            await self._make_room(model, device)
            load = Load(
                model=model.id,
                file=model.file,
                context_length=self.context_length(model),
                port=await self._port(model.id, first),
                kind=model.kind,
                device=device,
                projector=model.projector,
            )
            needed = self.estimate(model).total_bytes
            resident = Resident(load, estimate_bytes=needed, ended=self._ended)
            self.residents[model.id] = resident
            return resident

    async def _started(self, resident: Resident) -> None:
        try:
            program = await self._machine.program()
            prompts = (await self._machine.free(resident.load.device)).prompts_mib
            words = llama_cpp.arguments(program, resident.load, self._settings, prompts)
            await resident.start(self._launcher, words)
        except BaseException:
            self._left(resident)
            await resident.stop()
            raise

    async def _make_room(self, model: Model, device: str) -> None:
        """Unload idle models until there is place and memory for this one."""
        deadline_s = time.monotonic() + ROOM_S
        while True:
            free = await self._machine.free(device)
            if self._fits(model, free):
                return
            victim = await self._idlest()
            if victim is not None:
                await self._unload(victim, f"it makes room for {model.id}")
            elif time.monotonic() > deadline_s:
                raise TooBusy(f"All loaded models are at work; {model.id} finds no room now.")
            else:
                await asyncio.sleep(POLL_S)

    def _fits(self, model: Model, free: Free) -> bool:
        """Raises ModelTooLarge for what would not fit even alone."""
        needed = self.estimate(model)
        others = self.residents.values()
        left = free.total_bytes
        if not free.device_bytes:  # else the mapped weights lie on a device, and are counted there
            left -= sum(other.reserved_bytes() for other in others)
        if needed.total_bytes > left + sum(other.estimate_bytes for other in others):
            raise ModelTooLarge(_figures(model.id, needed, max(0, left)))
        return needed.total_bytes <= left and len(others) < self._settings.llama_cpp_models

    async def _idlest(self) -> Resident | None:
        """The one used longest ago of those that have no work."""
        for resident in sorted(self.residents.values(), key=lambda each: -each.unused_s):
            if not await resident.busy() and self._holds(resident):
                return resident
        return None

    async def _unload(self, resident: Resident, reason: str) -> None:
        log.info("%s is unloaded: %s", resident.load.model, reason)
        self._left(resident)
        await resident.stop()

    def _device(self) -> str:
        """The one of the named devices that serves the fewest models."""
        taken = [resident.load.device for resident in self.residents.values()]
        return min(self._settings.llama_cpp_devices.split(), key=taken.count, default="")

    async def _port(self, id: str, first: bool) -> int:
        if first:
            return await self._ports.preferred(id)
        return self._ports.any(id, {each.load.port for each in self.residents.values()})

    def _left(self, resident: Resident) -> None:
        self.residents.pop(resident.load.model, None)
        self._ports.left(resident.load.port, resident.load.model)

    def _ended(self, resident: Resident) -> None:
        """A server ended by itself."""
        if self._holds(resident):
            self._left(resident)
            error = EngineFailed(f"{resident.load.model} broke down: {resident.trouble()}")
            self._failed(resident.load.model, error, resident.uptime_s)
            self._crashed(resident.load.model)

    def _failed(self, id: str, error: AIStackError, uptime_s: float) -> None:
        """Remember it; a server that crashed is started again after a pause that grows."""
        log.error("%s", error.message)
        before = self.failures.get(id)
        crashes = before.crashes if before is not None and uptime_s < SETTLED_S else 0
        pause_s = 0.0
        if isinstance(error, EngineFailed):
            crashes += 1
            pause_s = self._backoff.pause_s(crashes)
        self.failures[id] = Failure(error.message, crashes, time.monotonic() + pause_s)


def _figures(id: str, needed: fit.Estimate, free_bytes: int) -> str:
    return (
        f"{id} needs about {_gib(needed.total_bytes)} of memory (weights "
        f"{_gib(needed.weights_bytes)}, context {_gib(needed.cache_bytes)}, working space "
        f"{_gib(needed.overhead_bytes)}), and {_gib(free_bytes)} are free. Take a smaller "
        "quantization, or lower LLAMA_CPP_CTX_SIZE or LLAMA_CPP_WEB_CONCURRENCY."
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.2f} GiB"
