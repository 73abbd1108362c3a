"""Row 11: requests that are generated from the API's own description, known and unknown callers.

Each route gets values at and beyond every bound that it states, and bodies of other shapes, by
schemathesis. A generator that finds nothing proves nothing: it also runs over a build with ten
bugs, and has to find eight of them.
"""

import asyncio
import json
import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ai_stack.server import create_api
from ai_stack.settings import load_settings
from reliability.bugs import PLANTED_BUG, TEN_BUGS
from reliability.grounds import Ground, answers, end, faulty, stack
from reliability.verdicts import Measured, Row, Trial
from stacks import free_port

ENOUGH_FOUND = 8
NOT_ASKED = r"/runs/\{id\}/events|/documents/export"  # they answer for as long as they like
OPERATORS = ("read", "write", "infer", "skills", "agent", "manage", "operate")


@dataclass
class Seen:
    """The answers to generated requests: how many of each status, what failed, which bugs."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    bugs: set[str] = field(default_factory=set)

    def add(self, request: dict, response: dict | None) -> None:
        asked = f"{request['method']} {request['uri'].partition('//')[2].partition('/')[2]}"
        if response is None:
            self.failures.append(f"/{asked}: no answer"[:200])
            return
        status = response["status_code"]
        self.statuses[status] += 1
        self.bugs.update(response["headers"].get(PLANTED_BUG, ()))
        if status >= 500:
            self.failures.append(f"{asked}: {status}"[:200])

    @property
    def cases(self) -> int:
        return self.statuses.total()


async def measure(trial: Trial) -> Measured:
    """Ask a stack of the row's own, since generated requests may change anything."""
    return await asyncio.to_thread(_measured, trial)


def _measured(trial: Trial) -> Measured:
    with stack(AI_STACK_AUTH="required", AI_STACK_IMPORT_TIMEOUT_S="5") as ground:
        key = _key(ground)
        examples = str(trial.size(8, 60))
        if trial.plant is not None:
            return _found(_on_faulty(ground, trial, key, examples))
        anonymous = _asked(ground, trial, examples)
        known = _asked(ground, trial, examples, key)
        found = _found(_on_faulty(ground, trial, key, examples)) if trial.full else None
    return _judged(known, anonymous, found)


def _judged(known: Seen, anonymous: Seen, found: Measured | None) -> Measured:
    faults = [*known.failures[:10], *anonymous.failures[:10]]
    if anonymous.statuses[401] < anonymous.cases / 2:
        faults.append(f"few unknown callers were refused: {dict(anonymous.statuses)}")
    if known.statuses[200] < known.cases / 50:
        faults.append(f"hardly a case came through: {dict(known.statuses)}")
    if found is not None and not found.faults:
        faults.append("too few of the planted bugs were found")
    failed = len(known.failures) + len(anonymous.failures)
    figures = {"cases": known.cases, "of unknown callers": anonymous.cases, "5xx": failed}
    return Measured({**figures, **(found.figures if found else {})}, tuple(faults))


def _found(seen: Seen) -> Measured:
    """What the generator finds in the build with ten bugs: red with most of them, else green."""
    figures = {"planted bugs found": f"{len(seen.bugs)} of {len(TEN_BUGS)}"}
    faults = tuple(sorted(seen.bugs)) if len(seen.bugs) >= ENOUGH_FOUND else ()
    return Measured(figures, faults)


def _key(ground: Ground) -> str:
    scopes = [part for scope in OPERATORS for part in ("--scope", scope)]
    made = json.loads(ground.command("keys", "create", "generated", *scopes, "--json"))
    return str(made["key"])


def _on_faulty(ground: Ground, trial: Trial, key: str, examples: str) -> Seen:
    port = free_port()
    process = faulty(ground, "ten-bugs", "serve", AI_STACK_PORT=str(port))
    try:
        asyncio.run(answers(port, process))
        beside = Ground(ground.folder, ground.settings, ground.environment, process, port)
        return _asked(beside, trial, examples, key)
    finally:
        end(process)


def _asked(ground: Ground, trial: Trial, examples: str, key: str = "") -> Seen:
    """All routes with generated requests; the description itself is for known callers only."""
    with tempfile.TemporaryDirectory() as reports:
        description = Path(reports) / "openapi.json"
        description.write_text(json.dumps(_description()))
        command = [
            *(str(Path(sysconfig.get_path("scripts")) / "schemathesis"), "run", str(description)),
            *("--url", f"http://127.0.0.1:{ground.port}", "--seed", str(trial.seed)),
            *("--checks", "not_a_server_error", "--phases", "coverage,fuzzing"),
            *("--max-examples", examples, "--exclude-path-regex", NOT_ASKED),
            *("--continue-on-failure", "--request-timeout", "30", "--no-color"),
            *("--report", "ndjson", "--report-dir", reports),
        ]
        command += ["--header", f"Authorization: Bearer {key}"] if key else []
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=reports)
        seen = Seen()
        for request, response in _interactions(Path(reports)):
            seen.add(request, response)
    trial.log.write(
        "asked", statuses=seen.statuses, failures=seen.failures, end=done.stdout[-2000:]
    )
    return seen


def _interactions(reports: Path) -> Iterator[tuple[dict, dict | None]]:
    for line in next(reports.glob("*.ndjson")).read_text().splitlines():
        finished = json.loads(line).get("ScenarioFinished")
        if finished is not None:
            for one in finished["recorder"]["interactions"].values():
                yield one["request"], one["response"]


def _description() -> dict:
    """What the gateway serves as /openapi.json."""
    return create_api(load_settings({})).openapi()


ROWS = (
    Row(
        11,
        "generated requests, known callers and unknown, meet no unexpected failure",
        "0 5xx; 8 of 10 planted bugs found",
        measure,
        ("ten-bugs",),
        calm=True,
    ),
)
