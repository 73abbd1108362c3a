"""Row 17: three projects do everything to each other's documents, at the service floor; then two
keys of two projects through HTTP.

It runs in a process of its own, so that a faulty build can be planted under it:
python tests/reliability/tenants.py CASES SEED
"""
# ruff: noqa: E402 (run as a script, it finds its package first)

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

sys.path[:0] = [str(Path(__file__).parents[1])]

import numpy as np
import psycopg
from hypothesis import HealthCheck, seed, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from ai_stack.errors import AIStackError, NotFound
from ai_stack.models.documents import Document, NewDocument
from ai_stack.models.filters import parse_filter
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchRequest
from ai_stack.settings import load_settings
from ai_stack.stack import Stack, open_stack
from ai_stack.vectors import VectorQuery
from reliability import tenants_http
from reliability.grounds import PLANTS, end, faulty, until
from reliability.verdicts import Measured, Row, Trial

STEPS = 25
COURT = "SCORECARD_COURT"  # names the run, so that each has projects of its own


def projects(court: str) -> tuple[UUID, ...]:
    return tuple(uuid5(NAMESPACE_URL, f"{court} {number}") for number in range(3))


PROJECTS = projects(os.environ.get(COURT, ""))
WHO = strategies.sampled_from(PROJECTS)
KEYS = strategies.sampled_from(("report", "a/b.md", "2024", "note"))
COLOURS = strategies.sampled_from(("red", "green", "blue"))
YEARS = strategies.integers(2000, 2003)
FILTERS = strategies.one_of(
    strategies.none(),
    COLOURS.map(lambda c: {"colour": c}),
    COLOURS.map(lambda c: {"not": {"colour": c}}),
    YEARS.map(lambda y: {"year": {"gte": y}}),
    strategies.tuples(COLOURS, YEARS).map(lambda p: {"or": [{"colour": p[0]}, {"year": p[1]}]}),
    strategies.just({"tags": {"contains": "shared"}}),
    strategies.just({"owner": {"in": ["0", "1", "2"]}}),
)


class Court:
    """One stack in this process, and everything that was ever seen where it does not belong."""

    def __init__(self, stack: Stack, runner: asyncio.Runner) -> None:
        self.stack, self.runner = stack, runner
        self.owners: dict[UUID, UUID] = {}
        self.cases: Counter[str] = Counter()
        self.foreign: list[str] = []

    def run(self, case: str, work: Coroutine[Any, Any, Any]) -> Any:
        """One case; an error of the stack is an answer too, and None."""
        self.cases[case] += 1
        try:
            return self.runner.run(work)
        except AIStackError as error:
            self.cases[f"{case}: {error.code}"] += 0
            return None

    def see(self, case: str, who: UUID, document: Document) -> None:
        mine = self.owners.get(document.uuid) in (who, None)
        canary = f"canary-{PROJECTS.index(who)}"
        if not mine or canary not in document.content:
            self.foreign.append(f"{case}: {who} saw {document.uuid}")

    def see_hit(self, who: UUID, document_id: UUID) -> None:
        if self.owners.get(document_id) not in (who, None):
            self.foreign.append(f"vectors: {who} hit {document_id}")


class Neighbours(RuleBasedStateMachine):
    """Adds, changes, deletes, lists and searches; `court` is set before it is run."""

    court: Court

    @initialize()
    def begin(self) -> None:
        self.mine: dict[UUID, list[UUID]] = {who: [] for who in PROJECTS}

    @rule(
        who=WHO,
        key=strategies.none() | KEYS,
        colour=COLOURS,
        year=YEARS,
        direction=strategies.booleans(),
    )
    def add(self, who: UUID, key: str | None, colour: str, year: int, direction: bool) -> None:
        new = NewDocument(
            f"canary-{PROJECTS.index(who)} the {colour} fox of {year} and a shared word",
            {"colour": colour, "year": year, "tags": ["shared"], "owner": str(PROJECTS.index(who))},
            key,
            vector(colour, year, direction),
        )
        written = self.court.run("add", self.court.stack.documents.add(Principal(who), [new]))
        for document in written.documents if written else ():
            self.court.owners[document.uuid] = who
            self.mine[who].append(document.uuid)
            self.court.see("add", who, document)

    @rule(who=WHO, owner=WHO, at=strategies.integers(0, 99))
    def get_by_id(self, who: UUID, owner: UUID, at: int) -> None:
        if self.mine[owner]:
            id = str(self.mine[owner][at % len(self.mine[owner])])
            found = self.court.run("get", self.court.stack.documents.get(Principal(who), id))
            if found is not None:
                self.court.see("get", who, found)

    @rule(who=WHO, key=KEYS)
    def get_by_key(self, who: UUID, key: str) -> None:
        found = self.court.run("get key", self.court.stack.documents.get(Principal(who), key))
        if found is not None:
            self.court.see("get key", who, found)

    @rule(who=WHO, owner=WHO, at=strategies.integers(0, 99), colour=COLOURS)
    def patch(self, who: UUID, owner: UUID, at: int, colour: str) -> None:
        """A foreign document cannot be changed, and stays as it was."""
        if not self.mine[owner]:
            return
        id = str(self.mine[owner][at % len(self.mine[owner])])
        change = {"metadata": {"colour": colour}}
        done = self.court.run("patch", self.court.stack.documents.patch(Principal(who), id, change))
        if done is not None and who != owner:
            self.court.foreign.append(f"patch: {who} changed {id}")

    @rule(who=WHO, owner=WHO, at=strategies.integers(0, 99))
    def delete(self, who: UUID, owner: UUID, at: int) -> None:
        if not self.mine[owner]:
            return
        place = at % len(self.mine[owner])
        id = self.mine[owner][place]
        self.court.run("delete", self.court.stack.documents.delete(Principal(who), str(id)))
        if self.court.run("owner", self._there(owner, id)):
            return
        if who != owner:
            self.court.foreign.append(f"delete: {who} removed {id}")
        self.mine[owner].pop(place)

    async def _there(self, owner: UUID, id: UUID) -> bool:
        try:
            await self.court.stack.documents.get(Principal(owner), str(id))
        except NotFound:
            return False
        return True

    @rule(who=WHO, filter=FILTERS, words=strategies.sampled_from((None, "fox", "shared")))
    def page(self, who: UUID, filter: dict[str, Any] | None, words: str | None) -> None:
        found = self.court.run(
            "list",
            self.court.stack.documents.page(
                Principal(who), filter=parse_filter(filter), search=words, limit=1000
            ),
        )
        for document in found.items if found else ():
            self.court.see("list", who, document)

    @rule(
        who=WHO,
        filter=FILTERS,
        mode=strategies.sampled_from(("semantic", "keyword", "hybrid")),
        colour=COLOURS,
        limit=strategies.integers(1, 100),
    )
    def search(
        self, who: UUID, filter: dict[str, Any] | None, mode: Any, colour: str, limit: int
    ) -> None:
        request = SearchRequest(
            query=f"the {colour} fox", limit=limit, filter=parse_filter(filter), mode=mode
        )
        self._seen(mode, who, request)

    @rule(who=WHO, filter=FILTERS, colour=COLOURS, year=YEARS, direction=strategies.booleans())
    def search_by_vector(
        self, who: UUID, filter: dict[str, Any] | None, colour: str, year: int, direction: bool
    ) -> None:
        """By another's very vector; and the index itself, below what views would hide."""
        given = vector(colour, year, direction)
        tree = parse_filter(filter)
        self._seen("vector", who, SearchRequest(vector=given, filter=tree, mode="semantic"))
        hits = self.court.run("index", self._hits(VectorQuery(who, given, 50, tree)))
        for hit in hits or ():
            self.court.see_hit(who, hit.document_id)

    async def _hits(self, query: VectorQuery) -> Any:
        search = self.court.stack.search
        return await search.vectors.search((await search.models.active()).model, query)

    def _seen(self, case: str, who: UUID, request: SearchRequest) -> None:
        answer = self.court.run(case, self.court.stack.search.search(request, Principal(who)))
        for result in answer.results if answer else ():
            self.court.see(case, who, result.document)

    @rule(who=WHO, filter=FILTERS)
    def export(self, who: UUID, filter: dict[str, Any] | None) -> None:
        lines = self.court.run("export", self._exported(who, filter)) or b""
        for other in PROJECTS:
            if other != who and f"canary-{PROJECTS.index(other)}".encode() in lines:
                self.court.foreign.append(f"export: {who} got what is {other}'s")

    async def _exported(self, who: UUID, filter: dict[str, Any] | None) -> bytes:
        lines = self.court.stack.exports.lines(Principal(who), parse_filter(filter))
        return b"".join([line async for line in lines])


def vector(colour: str, year: int, direction: bool) -> list[float]:
    """Few vectors, shared by all projects, so that each is everyone's nearest."""
    dice = np.random.default_rng([ord(colour[0]), year, direction])
    return [float(x) for x in dice.standard_normal(384)]


def judge(cases: int, number: int) -> dict[str, Any]:
    """Run until there were as many cases; hypothesis must not stop at the first fault."""
    options = settings(
        max_examples=max(1, cases // STEPS),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    given = load_settings(os.environ)
    with asyncio.Runner() as runner:
        opened = open_stack(given)
        court = Neighbours.court = Court(runner.run(opened.__aenter__()), runner)
        rounds = 0
        while sum(court.cases.values()) < cases and not court.foreign:
            machine = seed(number + rounds)(Neighbours)
            run_state_machine_as_test(machine, settings=options)
            rounds += 1
        runner.run(opened.__aexit__(None, None, None))
    return {"cases": dict(court.cases), "foreign": court.foreign[:50], "total": len(court.foreign)}


async def measure(trial: Trial) -> Measured:
    court = f"court {time.time_ns()}"
    await asyncio.to_thread(_make_projects, trial, court)
    cases = trial.size(400, 10_000)
    plant, variables, engine = trial.plant or "none", {COURT: court}, None
    if plant == "unscoped-vectors":
        plant = "none"
        engine, variables["AI_STACK_VECTORS_URL"] = await _faulty_engine(trial)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(PLANTS), plant, "tenants", str(cases), str(trial.seed)),
            env={**trial.ground.environment, **_addresses(trial), **variables},
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        given = {n: v for n, v in variables.items() if n != COURT}
        http = await tenants_http.play(trial, plant, trial.size(300, 3000), **given)
    finally:
        if engine is not None:
            await asyncio.to_thread(end, engine)
    found = json.loads(printed)
    trial.log.write("cases", **found)
    trial.log.write("http", cases=http.cases, foreign=http.foreign)
    total = found["total"] + len(http.foreign)
    figures = {"cases": sum(found["cases"].values()), "projects": 3}
    figures |= {"through HTTP, by two keys": sum(http.cases.values()), "foreign hits": total}
    return Measured(figures, (*found["foreign"][:3], *http.foreign[:3]))


def _addresses(trial: Trial) -> dict[str, str]:
    from ai_stack.supervisor import parts  # noqa: PLC0415

    return parts.addresses(trial.ground.settings)


def _make_projects(trial: Trial, court: str) -> None:
    url = _addresses(trial)["AI_STACK_DATABASE_ADMIN_URL"]
    with psycopg.connect(url, autocommit=True) as admin:
        for number, id in enumerate(projects(court)):
            admin.execute(
                "INSERT INTO aidb.projects (id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (id, f"{court} {number}"),
            )


async def _faulty_engine(trial: Trial) -> tuple[Any, str]:
    """A vector engine of a faulty build beside the stack's own."""
    socket = trial.ground.settings.runtime / "faulty.sock"
    data = str(trial.ground.folder / "faulty-vectors")
    engine = faulty(
        trial.ground, "unscoped-vectors", "vectors", "--socket", str(socket), "--data", data
    )

    async def there() -> bool:
        return socket.exists()

    await until(there, 30)
    return engine, f"qdrant-edge://{socket}"


ROWS = (
    Row(
        17,
        "vector filters, ids, exports of three projects, by hypothesis, stateful",
        "0 foreign hits in 10k cases",
        measure,
        ("unscoped-vectors", "sticky-project"),
        calm=True,
    ),
)

if __name__ == "__main__":
    print(json.dumps(judge(int(sys.argv[1]), int(sys.argv[2]))))
