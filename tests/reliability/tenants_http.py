"""The part of row 17 that goes through HTTP: two keys of two projects, REST and MCP, at random.

Both use the same ids, words, filters and vectors, and each knows the ids of the other's documents.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import psycopg

from ai_stack.models.principals import EVERY_SCOPE, Scope
from ai_stack.services.auth.secrets import open_secrets
from reliability.callers import Scribe, admin_url
from reliability.clients import FAILURES, Client, Reply
from reliability.grounds import answers, end, faulty
from reliability.verdicts import Trial
from stacks import free_port

RIGHTS = EVERY_SCOPE - {Scope.OPERATE}
KEYS, COLOURS, YEARS = ("report", "a/b.md", "2024", "note"), ("red", "green"), (2000, 2001)
FILTERS = (
    None,
    {"colour": "red"},
    {"not": {"colour": "red"}},
    {"or": [{"colour": "red"}, {"year": {"gte": 2001}}]},
    {"owner": {"in": ["0", "1"]}},
)
MCP = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}


@dataclass
class Side:
    """One of the two: its key, and the ids of what it has added."""

    number: int
    token: str
    client: Client
    ids: list[str] = field(default_factory=list)

    @property
    def canary(self) -> str:
        return f"side-{self.number}-canary"

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        own = {"Authorization": f"Bearer {self.token}", **headers}
        return await self.client.request(method, path, body, own)


@dataclass
class Court:
    """Plays at random, and notes whatever one sees or changes of the other's."""

    sides: tuple[Side, Side]
    dice: random.Random
    cases: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)

    async def play(self) -> None:
        one, other = self.dice.sample(self.sides, 2)
        move = self.dice.choice(MOVES)
        self.cases[f"http {move.__name__}"] += 1
        try:
            reply = await move(self, one, other)
        except FAILURES as error:
            self.foreign.append(f"{move.__name__}: no answer ({type(error).__name__})")
            return
        if other.canary.encode() in reply.body:
            self.foreign.append(f"{move.__name__}: side {one.number} sees the other's")

    def pick(self, side: Side) -> str:
        return quote(self.dice.choice([*side.ids[-30:], *KEYS]), safe="")

    async def add(self, one: Side, _: Side) -> Reply:
        colour, year = self.dice.choice(COLOURS), self.dice.choice(YEARS)
        metadata = {"colour": colour, "year": year, "owner": str(one.number)}
        body = {"content": f"{one.canary} the {colour} fox of {year}", "metadata": metadata}
        reply = await one.ask("POST", "/documents", body)
        if reply.ok:
            one.ids.append(reply.json()["id"])
        return reply

    async def add_by_key(self, one: Side, _: Side) -> Reply:
        key = self.dice.choice(KEYS)
        body = {"content": f"{one.canary} under {key}", "id": key}
        return await one.ask("POST", "/documents", body, **{"Idempotency-Key": key})

    async def get(self, one: Side, other: Side) -> Reply:
        return await one.ask("GET", f"/documents/{self.pick(other)}")

    async def patch(self, one: Side, other: Side) -> Reply:
        id = self.pick(other)
        return await one.ask("PATCH", f"/documents/{id}", {"metadata": {"colour": "red"}})

    async def delete(self, one: Side, other: Side) -> Reply:
        """By an id of the other's, which is there afterwards as it was before."""
        if not other.ids:
            return await one.ask("GET", "/documents")
        id = self.dice.choice(other.ids)
        await one.ask("DELETE", f"/documents/{id}")
        if not (await other.ask("GET", f"/documents/{id}")).ok:
            self.foreign.append(f"delete: side {one.number} took {id} away")
        return await one.ask("GET", f"/documents/{id}")

    async def listed(self, one: Side, _: Side) -> Reply:
        given = self.dice.choice(FILTERS)
        asked = "" if given is None else f"&filter={quote(json.dumps(given))}"
        words = self.dice.choice(("", "&search=fox"))
        return await one.ask("GET", f"/documents?limit=1000{asked}{words}")

    async def search(self, one: Side, other: Side) -> Reply:
        query = {"query": f"{other.canary} the red fox of 2001", "limit": 50}
        mode = self.dice.choice(("semantic", "keyword", "hybrid"))
        given = self.dice.choice(FILTERS)
        return await one.ask("POST", "/search/semantic", {**query, "mode": mode, "filter": given})

    async def runs(self, one: Side, _: Side) -> Reply:
        return await one.ask("GET", "/runs?limit=1000")

    async def mcp(self, one: Side, other: Side) -> Reply:
        uri = f"aidb://documents/{self.pick(other)}"
        method, params = self.dice.choice(
            (
                ("resources/read", {"uri": uri}),
                ("resources/list", {}),
                ("tools/call", {"name": "list_documents", "arguments": {}}),
                ("tools/call", {"name": "search", "arguments": {"query": "the red fox"}}),
            )
        )
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await one.ask("POST", "/mcp", body, **MCP)


Move = Callable[[Court, Side, Side], Awaitable[Reply]]
MOVES: tuple[Move, ...] = (
    *(Court.add, Court.add_by_key, Court.get, Court.patch, Court.delete, Court.listed),
    *(Court.search, Court.search, Court.runs, Court.mcp),
)


async def play(trial: Trial, plant: str, cases: int, **variables: str) -> Court:
    """So many cases at a gateway that wants keys; faulty if planted."""
    port = free_port()
    given = {"AI_STACK_PORT": str(port), "AI_STACK_AUTH": "required", **variables}
    process = await asyncio.to_thread(faulty, trial.ground, plant, "serve", **given)
    try:
        await answers(port, process)
        court = Court(await asyncio.to_thread(_sides, trial, port), random.Random(trial.seed))
        for _ in range(cases):
            await court.play()
        for side in court.sides:
            side.client.close()
    finally:
        await asyncio.to_thread(end, process)
    return court


def _sides(trial: Trial, port: int) -> tuple[Side, Side]:
    pepper = open_secrets(trial.ground.settings.secrets).pepper
    with psycopg.connect(admin_url(trial.ground), autocommit=True) as connection:
        write = Scribe(connection, pepper)
        keys = [write.key((write.project(f"side {port} {n}"),), RIGHTS) for n in range(2)]
    one, two = [Side(n, key, Client(port)) for n, key in enumerate(keys)]
    return one, two
