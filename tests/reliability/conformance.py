"""Row 12: the protocol's own suites on the MCP face of a gateway over this stack's parts.

It serves the fixtures that the suites call by name, so it is a process of its own:
python tests/reliability/conformance.py without|with PORT
"""
# ruff: noqa: E402 (run as a script, it finds its package first)

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

import uvicorn

import mcp_fixtures as fixtures
import mcp_suites as suites
from ai_stack.connections import Connection
from ai_stack.mcp import Mcp
from ai_stack.rest.requests import caller_of
from ai_stack.rest.weight import check_weight
from ai_stack.server import create_app
from ai_stack.settings import load_settings
from ai_stack.supervisor import parts
from reliability.grounds import PLANTS, answers, end
from reliability.verdicts import Measured, NotRunHere, Row, Trial
from stacks import free_port

OLDER_CHECKS = 40
SKILLS = ("sep-2640-skills-directory", "sep-2640-skills-enumeration", "sep-2640-skills-manifest")
REQUIREMENTS = ("--requirements", "2026-07-28")


async def measure(trial: Trial) -> Measured:
    await installed()
    async with gateway(trial, "with") as url:
        older = await suites.judge(suites.OLDER, url)
    async with gateway(trial, "without") as url:
        newer = await suites.judge(suites.NEWER, url, REQUIREMENTS)
        skills = [await suites.judge(suites.NEWER, url, ("--scenario", s)) for s in SKILLS]
    for name, found in (("older", older), ("newer", newer)):
        trial.log.write(name, passed=found.passed, failures=found.failures)
    core = {name: n for name, n in newer.failures.items() if not name.startswith("tasks-")}
    faults = [f"2025-11-25, {name}: {n} checks" for name, n in older.failures.items()]
    faults += [f"2026-07-28, {name}: {n} checks" for name, n in core.items()]
    for name, found in zip(SKILLS, skills, strict=True):
        faults += [f"{name}: {failed} checks" for failed in found.failures.values()]
    if older.passed != OLDER_CHECKS and not older.failures:
        faults.append(f"2025-11-25 made {older.passed} checks, not {OLDER_CHECKS}")
    figures = {
        "2025-11-25": f"{older.passed}/{OLDER_CHECKS}",
        "2026-07-28 failed": sum(core.values()),
        "skills": sum(found.passed for found in skills),
    }
    return Measured(figures, tuple(faults))


async def installed() -> None:
    try:
        await asyncio.to_thread(suites.install)
    except subprocess.CalledProcessError:
        raise NotRunHere("npm does not bring the suites here") from None


@asynccontextmanager
async def gateway(trial: Trial, sessions: str) -> AsyncIterator[str]:
    """A gateway with the fixtures, of a faulty build where one is planted."""
    ground, port = trial.ground, free_port()
    script = [str(Path(__file__))]
    command = script if trial.plant is None else [str(PLANTS), trial.plant, "conformance"]
    environment = {**ground.environment, **parts.addresses(ground.settings)}
    with (ground.folder / "conformance.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command, sessions, str(port)],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        await answers(port, process)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        await asyncio.to_thread(end, process)


def main() -> None:
    sessions, port = sys.argv[1:]
    settings = load_settings()
    fixtures.write_skill(settings.folders_of_skills[0])
    face = Mcp(
        caller_of, check_weight, partial(fixtures.with_fixtures, sessions=sessions == "with")
    )
    app = create_app(settings, face=face)
    uvicorn.run(app, port=int(port), http=Connection, ws="none", log_level="warning")


ROWS = (
    Row(
        12,
        "MCP is spoken as its own suites want it, in both eras of the protocol",
        "40 of 40 checks of 0.1.16, all that 2026-07-28 requires, and skills",
        measure,
        ("empty-resources", "lax-skills"),
        calm=True,
    ),
)

if __name__ == "__main__":
    main()
