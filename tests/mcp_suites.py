"""Runs the protocol's own conformance suites, which come from npm, by the Node of a wheel."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nodes

FOLDER = Path(__file__).parent / "conformance"
OLDER, NEWER = "conformance-2025-11-25", "conformance-2026-07-28"
SCENARIO = re.compile(r"^[✓✗] ([\w-]+): (\d+) passed, (\d+) failed", re.MULTILINE)
ALONE = re.compile(r"^Passed: (\d+)/\d+, (\d+) failed, (\d+) warnings", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """Checks that passed; scenarios with how many failed in each."""

    passed: int
    failures: dict[str, int]
    warnings: int
    said: str


def install() -> None:
    """What the lock names, where it is not there yet."""
    nodes.install(FOLDER)


async def judge(suite: str, url: str, options: Sequence[str] = ()) -> Outcome:
    """Run a suite, or one scenario of it, on the server at a URL."""
    program = FOLDER / "node_modules" / suite / "dist/index.js"
    process = await asyncio.create_subprocess_exec(
        *(str(nodes.node()), str(program), "server", "--url", url, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=FOLDER,
    )
    return outcome((await process.communicate())[0].decode())


def outcome(said: str) -> Outcome:
    alone = ALONE.search(said)
    if alone is not None:
        passed, failed, warnings = map(int, alone.groups())
        return Outcome(passed, {"this": failed} if failed else {}, warnings, said)
    found = SCENARIO.findall(said)
    assert found, said
    failures = {name: int(failed) for name, _, failed in found if failed != "0"}
    return Outcome(sum(int(passed) for _, passed, _ in found), failures, 0, said)
