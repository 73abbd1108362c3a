"""The machine: what runs the stack, and what room and memory are left."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from ai_stack.cli.diagnosis import Finding, Stack
from ai_stack.supervisor.folder import NEW_BYTES

OLDEST = (3, 11)
ROOM_BYTES, MEMORY_BYTES = 1 << 30, 512 << 20
AHEAD_S = 120.0


def python(stack: Stack) -> Iterator[Finding]:
    if sys.version_info < OLDEST:
        yield Finding(
            "python",
            f"This is Python {platform.python_version()}.",
            "The stack needs 3.11 or later.",
            "install a newer Python and run ./scripts/ai-stack-manage.sh up",
        )
    if sys.platform != "linux":
        yield Finding(
            "system",
            f"This is {platform.system()}.",
            "The supervisor uses what only Linux has.",
            "run the stack on Linux, and point AI_STACK_URL at it from here",
        )


def disk(stack: Stack) -> Iterator[Finding]:
    data = stack.settings.data_dir
    near = next(path for path in (data, *data.parents) if path.exists())
    free, new = shutil.disk_usage(near).free, not (data / "postgres" / "data").exists()
    if free < max(ROOM_BYTES, NEW_BYTES if new else 0):
        yield Finding(
            "disk",
            f"{free >> 20} MiB are free on the disk of {data}.",
            "Documents are refused when it is full, and models take gigabytes.",
            f"du -sh {data}/* shows what takes the room; `ai-stack models remove NAME` frees it",
        )


def memory(stack: Stack) -> Iterator[Finding]:
    left = psutil.virtual_memory().available
    if left < MEMORY_BYTES:
        yield Finding(
            "memory",
            f"{left >> 20} MiB of memory are left.",
            "The kernel kills what grows when there is none.",
            "ps aux --sort=-rss | head shows what takes it; AI_STACK_LLAMA_CPP_MODELS=1 keeps "
            "one model loaded",
        )


def clock(stack: Stack) -> Iterator[Finding]:
    """A clock that was set back: files of the stack are from the future."""
    newest = max(map(_changed, _written(stack.settings.data_dir)), default=0.0)
    ahead = newest - time.time()
    if ahead > AHEAD_S:
        yield Finding(
            "clock",
            f"The clock is {ahead / 60:.0f} minutes behind the newest file of the stack.",
            "What expires and what is sorted by time goes wrong.",
            "timedatectl set-ntp true",
        )


def _written(data: Path) -> Iterator[Path]:
    for folder in (data / "logs", data / "redis", data):
        if os.access(folder, os.R_OK | os.X_OK):
            yield from folder.iterdir()


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
