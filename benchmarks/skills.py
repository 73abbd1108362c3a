"""What the skills that come with the stack cost when it starts, and that listing imports none.

    python benchmarks/skills.py [--rounds 5]

Each round is a fresh process, so that nothing is warm but the disk. It finds the skills, lists
them with what each lacks, lists them again, and looks which of their modules were imported. What
is judged is processor time, since beside other work the clock measures that as well. The imports
of the stack itself come before and are not counted, nor is the search for the wall, which is
told apart: it starts a process, and costs the same with one skill.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from ai_stack.sandbox import find_sandbox
from ai_stack.services.skills.catalog import Catalog
from ai_stack.skill.discovery import PACKAGE

BUDGET_MS = 100.0


async def measured() -> dict[str, float]:
    """One start: milliseconds of each part, how many skills there are, how many were imported."""
    found: dict[str, float] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        begun, used = time.perf_counter(), time.process_time()
        yield
        found[f"{part}, ms"] = (time.perf_counter() - begun) * 1000
        found[f"{part}, processor ms"] = (time.process_time() - used) * 1000

    with timed("wall"):
        sandbox = find_sandbox()
    catalog = Catalog((), sandbox)
    with timed("find and list"):
        await listed(catalog)
    with timed("list again"):
        count = await listed(catalog)
    imported = [name for name in sys.modules if name.startswith(PACKAGE)]
    return {**found, "skills": count, "imported": len(imported)}


async def listed(catalog: Catalog) -> int:
    """List all skills as a stack does; how many there are."""
    entries = await catalog.entries()
    for entry in entries.values():
        catalog.listed(entry, entry.skill().parameters)
    return len(entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(asyncio.run(measured())))
        return
    command = [sys.executable, __file__, "--once"]
    rounds = [
        json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        for _ in range(options.rounds)
    ]
    for part in rounds[0]:
        values = sorted(one[part] for one in rounds)
        print(f"{part:30} {median(values):8.1f}   ({values[0]:.1f} to {values[-1]:.1f})")
    used = median(one["find and list, processor ms"] for one in rounds)
    if used > BUDGET_MS or any(one["imported"] for one in rounds):
        sys.exit(f"At most {BUDGET_MS:g} ms are to be used at start, and none is to be imported.")


if __name__ == "__main__":
    main()
