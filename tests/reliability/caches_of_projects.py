"""Row 16: many projects ask the same, in the same words and in others, and each hears its own.

No two answers of the engine behind are equal, so an answer that two projects hear is a leak, by
whatever cache or shared flight it came. Documents carry a canary of their project, which shows in
what is found and in what is answered from documents.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import psycopg

from ai_stack.models.principals import Scope
from ai_stack.services.auth.secrets import open_secrets
from reliability.callers import Scribe, admin_url
from reliability.clients import Client
from reliability.engines import Engine, engines
from reliability.grounds import Ground, answers, end, faulty, until
from reliability.verdicts import Measured, Row, Trial
from stacks import free_port

Kind: TypeAlias = Literal["first", "equal", "other words", "search", "from documents"]
LIKENESS = "0.8"
RIGHTS = frozenset({Scope.READ, Scope.WRITE, Scope.INFER})
MARKS = re.compile(r"answer-[0-9]+|canary-[0-9]+")
THINGS = (
    *("lighthouse", "harbour", "bakery", "orchard", "library", "railway", "vineyard", "glacier"),
    *("observatory", "brewery", "cathedral", "windmill", "aquarium", "quarry", "theatre", "canal"),
    *("museum", "castle", "foundry", "apiary", "dockyard", "monastery", "sawmill", "citadel"),
)
FORMS = (
    ("How old is the {} by the river?", "What is the age of the {} by the river?"),
    ("Who takes care of the {} in winter?", "In winter, who takes care of the {}?"),
    ("When does the {} open to visitors?", "At what time does the {} open to visitors?"),
)


@dataclass
class Neighbour:
    """One project: its canary, its key, and the marks of all that it was told first."""

    number: int
    token: str
    client: Client
    seen: set[str] = field(default_factory=set)

    @property
    def canary(self) -> str:
        return f"canary-{self.number}"

    async def ask(self, path: str, body: object) -> str:
        headers = {"Authorization": f"Bearer {self.token}"}
        reply = await self.client.request("POST", path, body, headers)
        if not reply.ok:
            raise RuntimeError(f"{path}: {reply.status} {reply.body[:200]!r}")
        return reply.body.decode()


@dataclass
class Found:
    """Whose each answer is, what came from caches, and what reached another project."""

    owners: dict[str, int] = field(default_factory=dict)
    asked: Counter[Kind] = field(default_factory=Counter)
    hits: Counter[Kind] = field(default_factory=Counter)
    own: int = 0
    foreign: list[str] = field(default_factory=list)

    def see(self, kind: Kind, who: Neighbour, question: str, text: str) -> None:
        self.asked[kind] += 1
        for mark in MARKS.findall(text):
            own = mark == who.canary if mark.startswith("canary") else self._owner(mark, who)
            self.own += own
            if not own:
                self.foreign.append(f"{kind}: project {who.number} got {mark} for {question!r}")
            if mark in who.seen and mark.startswith("answer"):
                self.hits[kind] += 1
            who.seen.add(mark)

    def _owner(self, mark: str, who: Neighbour) -> bool:
        return self.owners.setdefault(mark, who.number) == who.number


async def measure(trial: Trial) -> Measured:
    count, prompts = trial.size(8, 50), trial.size(40, 200)
    found, dice = Found(), random.Random(trial.seed)
    with engines(1, "--counted") as (engine,):
        await engine.listening()
        async with _gateway(trial, engine) as ground:
            neighbours = await asyncio.to_thread(_move_in, ground, count)
            await _settle(ground, neighbours)
            for kind, question in _questions(prompts, dice):
                dice.shuffle(neighbours)
                await asyncio.gather(*(_ask(found, one, kind, question) for one in neighbours))
            for one in neighbours:
                one.client.close()
    trial.log.write("asked", asked=found.asked, hits=found.hits, foreign=found.foreign)
    faults = [*found.foreign[:5]]
    faults += [f"no hit for {k}: that cache was not tried" for k in CACHED if not found.hits[k]]
    figures = {
        "projects": count,
        "questions": sum(found.asked.values()),
        "hits in equal words": found.hits["equal"],
        "hits in other words": found.hits["other words"],
        "own canaries": found.own,
        "foreign canaries": len(found.foreign),
    }
    return Measured(figures, tuple(faults))


CACHED: tuple[Kind, ...] = ("equal", "other words")


@asynccontextmanager
async def _gateway(trial: Trial, engine: Engine) -> AsyncIterator[Ground]:
    """One that wants keys, with every cache on, of a faulty build where one is planted."""
    port = free_port()
    given = {
        "AI_STACK_PORT": str(port),
        "AI_STACK_AUTH": "required",
        "AI_STACK_ENGINES": engine.url,
        "AI_STACK_SEMANTIC_CACHE": LIKENESS,
    }
    process = await asyncio.to_thread(faulty, trial.ground, trial.plant or "none", "serve", **given)
    try:
        await answers(port, process)
        yield replace(trial.ground, beside=process, beside_port=port)
    finally:
        await asyncio.to_thread(end, process)


def _move_in(ground: Ground, count: int) -> list[Neighbour]:
    """So many new projects, each with a key of its own."""
    pepper = open_secrets(ground.settings.secrets).pepper
    with psycopg.connect(admin_url(ground), autocommit=True) as connection:
        write = Scribe(connection, pepper)
        mark = free_port()
        keys = [write.key((write.project(f"neighbour {mark} {n}"),), RIGHTS) for n in range(count)]
    return [Neighbour(n, key, ground.client()) for n, key in enumerate(keys)]


async def _settle(ground: Ground, neighbours: Sequence[Neighbour]) -> None:
    """Wait for a model, then have each project keep documents on the same matter."""

    async def listed() -> bool:
        headers = {"Authorization": f"Bearer {neighbours[0].token}"}
        reply = await neighbours[0].client.request("GET", "/v1/models", None, headers)
        return b"stand-in" in reply.body

    await until(listed, 60)
    for one in neighbours:
        documents = [
            {"content": f"{one.canary} keeps the {thing} by the river."} for thing in THINGS[:4]
        ]
        await one.ask("/documents", {"documents": documents})


def _questions(count: int, dice: random.Random) -> list[tuple[Kind, str]]:
    """Each asked a first time, some again in equal words, some in others, some of documents."""
    pairs = [(f.format(t), g.format(t)) for t in THINGS for f, g in FORMS]
    dice.shuffle(pairs)
    found: list[tuple[Kind, str]] = []
    while len(found) < count:
        for plain, other in pairs:
            found += [("first", plain), ("equal", plain), ("other words", other)]
            found += [("search", plain), ("from documents", plain)]
    return found[:count]


async def _ask(found: Found, who: Neighbour, kind: Kind, question: str) -> None:
    if kind == "search":
        text = await who.ask("/search/semantic", {"query": question, "limit": 10})
    elif kind == "from documents":
        body = {"prompt": question, "documents": {"limit": 4}, "temperature": 0}
        text = await who.ask("/inference/generate", body)
    else:
        messages = [{"role": "user", "content": question}]
        body = {"messages": messages, "temperature": 0}
        text = await who.ask("/v1/chat/completions", body)
    found.see(kind, who, question, text)


ROWS = (
    Row(
        16,
        "caches: many projects ask the same, in equal and in other words, at once",
        "0 foreign canaries of 50 projects × 200 prompts, exact and semantic cache on",
        measure,
        ("shared-answers", "shared-questions"),
        calm=True,
    ),
)
