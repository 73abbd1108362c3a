"""Starts the trial of a skill's examples, ends it in time, and reads its report."""

import asyncio
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .folder import files

TRIAL = Path(__file__).parent / "trial.py"
MAX_SAID = 4_000


@dataclass(frozen=True, slots=True)
class Trial:
    """`rows` are the examples that were run; `fault` is what kept the others from it."""

    rows: list[dict[str, Any]]
    fault: str


async def attempt(folder: Path, work: Path, time_s: float) -> Trial:
    """Run the examples on a copy of the folder, so that the skill cannot change itself."""
    copy, report = work / folder.name, work / "report.json"
    await asyncio.to_thread(_copied, folder, copy)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-B", str(TRIAL), str(copy), str(work / "runs"), str(report),
        cwd=work, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, start_new_session=True, env=_environment(work),
    )  # fmt: skip
    try:
        async with asyncio.timeout(time_s):
            said = await _said(process)
            status = await process.wait()
        fault = "" if status == 0 else _last_line(said) or f"It ended with status {status}."
    except TimeoutError:
        fault = f"It was ended after {time_s:g} s."
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return Trial(_rows(report), fault)


async def _said(process: asyncio.subprocess.Process) -> bytes:
    """The end of what it told on its standard error, read to the last."""
    assert process.stderr is not None
    said = b""
    while part := await process.stderr.read(1 << 16):
        said = (said + part)[-MAX_SAID:]
    return said


def _copied(folder: Path, copy: Path) -> None:
    for path in files(folder):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _environment(work: Path) -> dict[str, str]:
    """No more than Python needs: no secret of whoever runs this."""
    places = os.pathsep.join(place for place in sys.path if place)
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "PYTHONPATH": places, "HOME": str(work), "TMPDIR": str(work),
            "LC_ALL": "C.UTF-8"}  # fmt: skip


def _rows(report: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(report.read_bytes())
    except (OSError, ValueError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:500] if lines else ""
