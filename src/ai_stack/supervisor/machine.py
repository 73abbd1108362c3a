"""What this machine offers a model: the llama.cpp that it has, its devices, its free memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_stack.settings import Settings
from ai_stack.supervisor import llama_cpp
from ai_stack.supervisor.child import Launcher
from ai_stack.supervisor.llama_cpp import OF_THE_WHEEL, Program
from ai_stack.weights import fit

PROMPTS_SHARE, MAX_PROMPTS_MIB = 8, 8192


@dataclass(frozen=True, slots=True)
class Free:
    """Bytes for a new server: the machine's, and those of the devices that it may use.

    `prompts_mib` of them may hold the prompts of slots that have no work.
    """

    main_bytes: int
    device_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.main_bytes + self.device_bytes

    @property
    def prompts_mib(self) -> int:
        return min(MAX_PROMPTS_MIB, (self.main_bytes >> 20) // PROMPTS_SHARE)


class Machine:
    """Asks the llama.cpp that is installed for its flags once, and for its devices at each load."""

    def __init__(self, settings: Settings, launcher: Launcher) -> None:
        self._settings, self._launcher = settings, launcher
        self._known: dict[tuple[str, int], Program] = {}
        self._without_devices: set[tuple[str, ...]] = set()

    async def program(self) -> Program:
        """The server to start; asked anew when the file on PATH is another one."""
        command = llama_cpp.found_program()
        if command == OF_THE_WHEEL:
            return Program(command)
        key = command[0], Path(command[0]).stat().st_mtime_ns
        if key not in self._known:
            self._known[key] = Program(command, await self._said([*command, "--help"]))
        return self._known[key]

    async def free(self, device: str) -> Free:
        """What is free in memory, and on `device` (all when empty) as far as layers go there."""
        return Free(fit.available_bytes(), await self._free_on(device))

    async def _free_on(self, device: str) -> int:
        command = (await self.program()).command
        if self._settings.llama_cpp_gpu_layers == 0 or command in self._without_devices:
            return 0
        found = llama_cpp.devices(await self._said([*command, "--list-devices"]))
        if not found:
            self._without_devices.add(command)
        chosen = device.split(",") if device else found
        return sum(found.get(name, 0) for name in chosen)

    async def _said(self, command: Sequence[str]) -> str:
        """What a short command prints; empty when it fails."""
        sink = _Said()
        child = self._launcher.start(command, {}, sink)
        try:
            return sink.text if await child.wait() == 0 else ""
        finally:
            child.kill_group()


class _Said:
    def __init__(self) -> None:
        self.text = ""

    def write(self, data: bytes) -> None:
        self.text += data.decode(errors="replace")
