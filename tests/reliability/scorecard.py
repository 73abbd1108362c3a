"""Prints the scorecard: row, promise, measured, target, verdict.

python tests/reliability/scorecard.py [--rows 1,2] [--full] [--seed N] [--plant NAME] [--json]
"""
# ruff: noqa: E402 (run as a script, it finds its package first)

import argparse
import asyncio
import json
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from reliability import (
    authorisation,
    backups,
    bodies,
    caches_of_projects,
    conformance,
    disk,
    endurance,
    engine,
    escapes,
    forged_tokens,
    generated,
    inference,
    injections,
    installation,
    openai_matrix,
    origins,
    rebuild,
    requests_elsewhere,
    secrets_told,
    standstill,
    tenants,
    without_redis,
    writes,
)
from reliability.grounds import Ground, stack, with_faulty_gateway
from reliability.verdicts import Log, NotRunHere, Row, Trial, Verdict, judge, not_run

SUBJECTS = (
    *(
        writes,
        engine,
        inference,
        standstill,
        disk,
        openai_matrix,
        conformance,
        tenants,
        caches_of_projects,
        bodies,
        escapes,
        injections,
        rebuild,
        backups,
        installation,
        generated,
        endurance,
        secrets_told,
        authorisation,
        origins,
        forged_tokens,
        requests_elsewhere,
        without_redis,
    ),
)
# Their rows start the faulty build by themselves.
STARTING = (
    authorisation,
    backups,
    caches_of_projects,
    conformance,
    endurance,
    forged_tokens,
    generated,
    inference,
    installation,
    openai_matrix,
    origins,
    requests_elsewhere,
    secrets_told,
    standstill,
    without_redis,
)
ROWS: dict[int, Row] = {row.number: row for subject in SUBJECTS for row in subject.ROWS}
BESIDE = (
    "unscoped-vectors",
    "sticky-project",
    "skipping-reindex",
    "open-wall",
    "trusting-agent",
    *(plant for subject in STARTING for row in subject.ROWS for plant in row.plants),
)  # plants that the row itself starts
# A bomb is given up after 5 s; keys that a row makes turn no other row's callers away.
VARIABLES = {"AI_STACK_IMPORT_TIMEOUT_S": "5", "AI_STACK_AUTH": "off"}
WIDTHS = (3, 30, 50, 34, 7)


async def run(
    row: Row, ground: Ground, *, full: bool, seed: int, plant: str | None, logs: Path
) -> Verdict:
    """One row on a stack that runs, with a plant's gateway as the one under test."""
    name = f"row{row.number:02d}{'-' + plant if plant else ''}.jsonl"
    async with AsyncExitStack() as exits:
        if plant is not None and plant not in BESIDE:
            ground = await exits.enter_async_context(with_faulty_gateway(ground, plant))
        return await judge(row, Trial(ground, full, seed, plant, Log(logs / name)))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    logs = Path(options.logs or tempfile.mkdtemp(prefix="ai-stack-scorecard-"))
    logs.mkdir(parents=True, exist_ok=True)
    verdicts = asyncio.run(_all(options, logs))
    print(json.dumps([asdict(v) for v in verdicts], indent=2) if options.json else table(verdicts))
    print(f"raw logs: {logs}", file=sys.stderr)
    return int(any(v.verdict == "FAIL" for v in verdicts))


async def _all(options: argparse.Namespace, logs: Path) -> list[Verdict]:
    chosen = [ROWS[number] for number in options.rows]
    if options.plant:
        chosen = [row for row in chosen if options.plant in row.plants]
    verdicts = []
    with Grounds() as grounds:
        for row in chosen:
            print(f"row {row.number}: {row.promise} …", file=sys.stderr, flush=True)
            verdicts.append(await grounds.judge(row, options, logs))
    return verdicts


class Grounds(ExitStack):
    """The stacks of a run: one that rows share, and one for each row that wants its own disk."""

    shared: Ground | None = None

    async def judge(self, row: Row, options: argparse.Namespace, logs: Path) -> Verdict:
        given = {
            "full": options.full,
            "seed": options.seed,
            "plant": options.plant,
            "logs": logs,
        }
        if not row.disk_bytes:
            if self.shared is None:
                self.shared = self.enter_context(stack(**VARIABLES))
            return await run(row, self.shared, **given)
        try:
            with disk.small_disk(row.disk_bytes) as folder, stack(folder / "data") as own:
                return await run(row, own, **given)
        except NotRunHere as reason:
            return not_run(row, str(reason), options.seed)


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a table for a terminal; faults are told below."""
    lines = _cells(("row", "promise", "measured", "target", "verdict"))
    for v in verdicts:
        lines += ["─" * (sum(WIDTHS) + 3 * (len(WIDTHS) - 1))]
        lines += _cells((str(v.row), v.promise, v.measured, v.target, v.verdict))
    for v in verdicts:
        lines += [f"row {v.row} (seed {v.seed}): {fault}" for fault in v.faults]
    return "\n".join(lines)


def _cells(texts: Sequence[str]) -> list[str]:
    columns = [textwrap.wrap(t, w) or [""] for t, w in zip(texts, WIDTHS, strict=True)]
    height = max(map(len, columns))
    padded = [c + [""] * (height - len(c)) for c in columns]
    return [
        " │ ".join(cell.ljust(w) for cell, w in zip(row, WIDTHS, strict=True)).rstrip()
        for row in zip(*padded, strict=True)
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=_numbers, default=list(ROWS), help="e.g. 1,2,17")
    parser.add_argument("--full", action="store_true", help="the counts that the targets mean")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--plant", help="run the rows of this defect with a build that has it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--logs", help="folder for the raw logs")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
