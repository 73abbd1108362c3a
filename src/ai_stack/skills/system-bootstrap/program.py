"""The `ai-stack` program of this installation, run with fixed verbs and checked arguments."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.skill import SkillFailed

NAME, MAX_OUTPUT = "ai-stack", 4 << 20


@dataclass(frozen=True, slots=True)
class Ran:
    """What a verb came to: its status, the JSON that it printed, and what it said besides."""

    command: str
    status: int
    output: Mapping[str, Any]
    said: str

    @property
    def fault(self) -> str:
        """Why it did not do what it should; empty where it did."""
        if self.status == 0:
            return ""
        lines = self.said.strip().splitlines()
        return lines[-1].removeprefix(f"{NAME}: ")[:500] if lines else f"status {self.status}"


def find() -> str:
    """The program beside this Python, else the one on PATH; SkillFailed."""
    beside = Path(sys.executable).parent / NAME
    found = str(beside) if beside.is_file() else shutil.which(NAME)
    if found is None:
        raise SkillFailed(f"The program {NAME} is not beside {sys.executable}, nor on PATH.")
    return found


async def run(arguments: Sequence[str], time_s: float) -> Ran:
    """Run one verb to its end; SkillFailed where it takes longer than it may."""
    process = await asyncio.create_subprocess_exec(
        find(), *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(time_s):
            output, said = await process.communicate()
    except TimeoutError:
        raise SkillFailed(f"`{told(arguments)}` did not end within {time_s:g} s.") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    text = said.decode("utf-8", "replace")[-MAX_OUTPUT:]
    return Ran(told(arguments), process.returncode or 0, _json(output[:MAX_OUTPUT]), text)


def told(arguments: Sequence[str]) -> str:
    """The command as a person would type it."""
    return " ".join([NAME, *(a for a in arguments if a != "--json")])


def _json(output: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(output)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
