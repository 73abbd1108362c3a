"""Bugs and syntax errors in Python, as ruff finds them; no configuration but this one."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from ruff import find_ruff_bin  # type: ignore[import-untyped]

from ai_stack.skill import SkillFailed

from .findings import Finding, Severity
from .sources import Source

# What is wrong wherever it stands; matters of taste are each project's own.
RULES = (
    "E722", "E9", "F", "B", "ASYNC", "PLE", "PLW0120", "PLW0127", "PLW0128", "PLW0129", "PLW0131",
    "PLW0133", "PLW0177", "PLW0211", "PLW0245", "PLW0406", "PLW0602", "PLW0711", "PLW1501",
    "RUF006", "RUF008", "RUF009", "RUF016", "RUF018", "RUF024", "RUF030", "RUF033", "RUF034",
)  # fmt: skip
NEVER_RIGHT = ("F5", "F6", "F7", "F82", "PLE", "E9", "B012", "RUF016")
SMALL = ("F401", "F841", "F541", "B007", "B009", "B010", "B904", "B905")
SUFFIXES = (".py", ".pyi")
TIMEOUT_S, BATCH = 120.0, 200


class Place(TypedDict):
    row: int


class Diagnostic(TypedDict):
    """What of ruff's JSON is read."""

    code: str | None
    message: str
    filename: str
    location: Place
    end_location: Place


async def lint(sources: Sequence[Source], folder: Path, suppressions: bool) -> list[Finding]:
    """Findings in the Python sources, which lie in `folder`."""
    paths = [s.path for s in sources if s.whole and s.path.endswith(SUFFIXES)]
    found: list[Finding] = []
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        found += [_finding(d, folder) for d in await _run(batch, folder, suppressions)]
    return found


async def _run(paths: Sequence[str], folder: Path, suppressions: bool) -> list[Diagnostic]:
    options = ["--isolated", "--no-cache", "--quiet", "--output-format=json", "--exit-zero"]
    options += ["--target-version=py313", f"--select={','.join(RULES)}"]
    options += [] if suppressions else ["--ignore-noqa"]
    process = await asyncio.create_subprocess_exec(
        find_ruff_bin(), "check", *options, "--", *paths,
        cwd=folder, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError:
        raise SkillFailed(f"ruff did not end within {TIMEOUT_S:.0f} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise SkillFailed(f"ruff ended with status {process.returncode}.")
    diagnostics: list[Diagnostic] = json.loads(output)
    return diagnostics


def _finding(diagnostic: Diagnostic, folder: Path) -> Finding:
    rule = diagnostic["code"] or "invalid-syntax"
    syntax = rule == "invalid-syntax" or rule.startswith("E9")
    return Finding(
        path=Path(diagnostic["filename"]).relative_to(folder).as_posix(),
        line=diagnostic["location"]["row"],
        end_line=diagnostic["end_location"]["row"],
        kind="syntax" if syntax else "bug",
        rule=rule,
        severity="high" if syntax else _severity(rule),
        message=diagnostic["message"],
    )


def _severity(rule: str) -> Severity:
    if rule.startswith(NEVER_RIGHT):
        return "high"
    return "low" if rule in SMALL else "medium"
