"""Runs a program to its end, within bounds of time and output."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ai_stack.skill import SkillFailed

TIMEOUT_S = 540.0
MAX_OUTPUT_BYTES = 4 << 20
LONGEST_REASON = 500
LATER = "import os, sys, time; time.sleep(1); os.execvp(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    output: str
    errors: str

    @property
    def reason(self) -> str:
        """The last line that says why it failed."""
        lines = (self.errors or self.output).strip().splitlines()
        return (lines[-1] if lines else f"it ended with {self.status}")[:LONGEST_REASON]


async def run(command: Sequence[str]) -> Ended:
    """Run it away from this folder; SkillFailed where it is missing or takes too long."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, cwd="/"
        )
    except OSError:
        raise SkillFailed(f"{command[0]} cannot be started here.") from None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        raise SkillFailed(f"`{_short(command)}` took longer than {TIMEOUT_S:g} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode or 0, _text(output), _text(errors))


async def run_well(command: Sequence[str]) -> str:
    """Run it; its output, or SkillFailed with its own reason."""
    ended = await run(command)
    if ended.status:
        raise SkillFailed(f"`{_short(command)}` failed: {ended.reason}")
    return ended.output


async def run_later(command: Sequence[str]) -> None:
    """Run it in a second and in a session of its own, since it ends who started it."""
    await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LATER, *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def _text(output: bytes) -> str:
    return output[-MAX_OUTPUT_BYTES:].decode("utf-8", "replace")


def _short(command: Sequence[str]) -> str:
    return " ".join(command[-4:])
