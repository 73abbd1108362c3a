"""How a llama.cpp server is started: its command, its environment, its threads.

The `llama-server` on PATH is preferred, since it may know a GPU; else it is the wheel's.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ai_stack.settings import SUPERVISED, Settings, plain_environment
from ai_stack.supervisor.ports import HOST
from ai_stack.weights.gguf import Kind

OF_THE_WHEEL = (sys.executable, "-m", "ai_stack.supervisor.llama_server")
WARNINGS, ALL = "2", "3"

_FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
_DEVICE = re.compile(r"^\s+(\S+): .*\((\d+) MiB, (\d+) MiB free\)", re.M)
_TROUBLE = re.compile(r"^[\d.]+ E |\b(error|failed|abort|terminate|out of memory|cannot)\b", re.I)
_PREFIX = re.compile(r"^[\d.]+ [A-Z] (\S+ +)?")


@dataclass(frozen=True, slots=True)
class Program:
    """A llama.cpp server that can be run; `help` is what it says of its flags, empty of the wheel.

    Flags come and go between releases, so a flag that a program does not name is left out,
    unless nothing would be right without it.
    """

    command: tuple[str, ...]
    help: str = ""

    def knows(self, flag: str) -> bool:
        return not self.help or flag in _FLAG.findall(self.help)

    @property
    def knows_verbosity(self) -> bool:
        """Whether -lv counts as it does now; it counted otherwise before."""
        return not self.help or "2: warning" in self.help


@dataclass(frozen=True, slots=True)
class Load:
    """What one server is to serve, and where; `context_length` holds for each of its slots."""

    model: str
    file: Path
    context_length: int
    port: int
    kind: Kind = "generation"
    device: str = ""
    projector: Path | None = None


def found_program() -> tuple[str, ...]:
    """The command of llama-server on PATH, else of the wheel's."""
    installed = shutil.which("llama-server", path=plain_environment().get("PATH"))
    return (installed,) if installed else OF_THE_WHEEL


def arguments(program: Program, load: Load, settings: Settings, prompts_mib: int) -> list[str]:
    """The whole command line; `prompts_mib` bounds the memory for prompts of idle slots."""
    slots = settings.llama_cpp_web_concurrency
    words = [*program.command, "-m", str(load.file), "--alias", load.model]
    words += ["--host", HOST, "--port", str(load.port)]
    words += ["-c", str(load.context_length * slots), "-np", str(slots)]
    words += ["-t", str(settings.llama_cpp_threads or cores())]
    words += ["-b", str(batch(load.kind, load.context_length, settings))]
    if load.kind != "generation":
        words += ["-ub", str(batch(load.kind, load.context_length, settings))]
    if settings.llama_cpp_gpu_layers >= 0:
        words += ["-ngl", str(settings.llama_cpp_gpu_layers)]
    if load.projector is not None:
        words += ["--mmproj", str(load.projector)]
    if load.device:
        words += ["--device", load.device]
    return words + list(_optional(program, load, settings, prompts_mib))


def batch(kind: Kind, context_length: int, settings: Settings) -> int:
    """Tokens that are worked on at once; what embeds or ranks sees a text as a whole."""
    given = settings.llama_cpp_batch
    return given if kind == "generation" else max(given, context_length)


def _optional(program: Program, load: Load, settings: Settings, prompts_mib: int) -> Iterator[str]:
    """What is left out where the program does not know it."""
    wanted: list[tuple[str, ...]] = [
        ("--cache-type-k", settings.llama_cpp_cache_type),
        ("--cache-type-v", settings.llama_cpp_cache_type),
        ("--cache-ram", str(prompts_mib)),
        ("--metrics",),
        ("--slots",),
        ("--no-webui",),
        ("--cors-origins", "localhost"),  # else any web page could ask it through a browser
    ]
    wanted += [_USE[load.kind]]
    if program.knows_verbosity:
        wanted.append(("-lv", ALL if settings.log_level == "debug" else WARNINGS))
    for words in wanted:
        if program.knows(words[0]):
            yield from words


_USE: Mapping[Kind, tuple[str, ...]] = {
    "generation": ("--jinja",),
    "embedding": ("--embeddings",),
    "rerank": ("--reranking",),
}


def environment(data: Path) -> dict[str, str]:
    """What a server may see: nothing of the settings, whose secrets are not its business.

    Threads of OpenMP that spin between two steps take the cores from everybody else.
    """
    return {
        **plain_environment(),
        "HOME": str(data),
        SUPERVISED: str(data),
        "OMP_WAIT_POLICY": "passive",
    }


def cores() -> int:
    """Cores that this process may use, each counted once however many threads it has."""
    allowed = os.sched_getaffinity(0)
    return len({_core_of(number) for number in allowed})


def _core_of(number: int) -> str:
    file = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
    return file.read_text().strip() if file.exists() else str(number)


def devices(listed: str) -> dict[str, int]:
    """Free bytes of each device, out of the answer to --list-devices."""
    return {name: int(free) << 20 for name, _, free in _DEVICE.findall(listed)}


def trouble(lines: Iterable[str]) -> str:
    """What went wrong, in a line, out of the last lines of a server's log."""
    told = [_PREFIX.sub("", line).strip() for line in lines if _TROUBLE.search(line)]
    telling = [line for line in told if "failed to load model" not in line] or told
    return "; ".join(dict.fromkeys(telling[:2]))[:400]
