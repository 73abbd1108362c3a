"""Rows 14 and 15: every route, and every method and tool of MCP, asked by whoever may not.

The matrix is generated from the route table and from MCP's tools. A refusal has to come before
the body is looked at, so that bodies that are malformed, or would not fit, do not hide a hole.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import uuid4

import orjson

import routes
from ai_stack.models.principals import Scope
from ai_stack.rest.projects import NeedsThere
from ai_stack.rest.requests import Anybody
from reliability.callers import Answer, Caller, Court, Headers, carried, court
from reliability.verdicts import Measured, Row, Trial

JSON = ("Content-Type", "application/json")
MCP = (JSON, ("Accept", "application/json, text/event-stream"))
Form = tuple[str, str, Headers, bytes, int | None]  # method, target, headers, body, its length
HUGE = 1 << 40
AT_ONCE, PART = 8, 4  # of four questions one is asked, where not all are
CARRIERS = ("bearer", "x-api-key", "cookie")
CANARY = "zanzibar-7431"
METHODS = {
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": "aidb://documents/canary"},
    "prompts/list": {},
    "prompts/get": {"name": "x"},
    "completion/complete": {
        "ref": {"type": "ref/prompt", "name": "x"},
        "argument": {"name": "name", "value": ""},
    },
    "skills/list": {},
    "skills/get": {"uri": "skill://template-skill/SKILL.md"},
    "resources/directory/read": {"uri": "skill://template-skill/"},
}


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask, what it needs, and what its answer says of whether one was let in."""

    name: str
    needed: frozenset[Scope]  # any of them will do; none is needed where there are none
    forms: Sequence[Form]
    verdict: Callable[[Answer], int | None]


def questions(project: str = "x") -> list[Question]:
    """All that can be asked; routes about a project ask about this one."""
    found = [r for r in routes.routes(routes.app()) if not isinstance(r.policy, Anybody)]
    rest = [
        Question(r.name, routes.scopes_of(r.policy), [*_forms(r, project)], of_rest)
        for r in dict.fromkeys(found)
    ]
    return [*rest, *_of_mcp()]


def _forms(route: routes.Route, project: str) -> Iterator[Form]:
    """As it is meant, with everything malformed, and with a body that would not fit."""
    here = isinstance(route.policy, NeedsThere)
    plain = filled(route.path, project if here else str(uuid4()))
    odd = filled(route.path, project if here else "x")
    wrong = (JSON, ("If-Match", "x"), ("Last-Event-ID", "x"), ("Idempotency-Key", "x" * 999))
    yield route.method, plain, (JSON,), b'{"', None
    yield route.method, f"{odd}?limit=x&cursor=x", wrong, b'{"', None
    yield route.method, plain, (JSON,), b"{", HUGE


def filled(path: str, value: str) -> str:
    return re.sub(r"\{[^}]*\}", value, path)


def _of_mcp() -> Iterator[Question]:
    for method, params in METHODS.items():
        yield _asked(method, Scope.READ, method, params)
    for name, tool in routes.tools().items():
        wrong = {"name": name, "arguments": {"there is no such argument": 1}}
        yield _asked(f"the tool {name}", tool.scope, "tools/call", wrong)


def _asked(name: str, needed: Scope, method: str, params: dict[str, Any]) -> Question:
    body = rpc(method, params)
    forms = [("POST", "/mcp", MCP, body, None), ("POST", "/mcp/", MCP, body, None)]
    return Question(f"MCP {name}", frozenset({needed}), forms, of_mcp)


def rpc(method: str, params: dict[str, Any]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def of_rest(answer: Answer) -> int | None:
    """The refusal that an answer is; None for one that lets its caller in."""
    return answer.status if answer.status in (0, 401, 403) or answer.status >= 500 else None


def of_mcp(answer: Answer) -> int | None:
    refused = of_rest(answer)
    if refused is None and (b"needs the scope" in answer.body or b"has no tool" in answer.body):
        return 403
    return refused


async def measure(trial: Trial) -> Measured:
    """Every question by every caller, then by one who may do everything in another project."""
    async with court(trial) as made:
        asked, faults = 0, list[str]()
        async for fault in _matrix(made, [*made.callers.values()], ("bearer",)):
            asked += 1
            faults += [fault] if fault else []
        foreign = await _foreign(made, trial)
        trial.log.write("faults", matrix=faults, foreign=foreign)
    figures = {"questions": len(questions()), "callers": len(made.callers), "asked": asked}
    figures |= {"unexpected": len(faults), "foreign": len(foreign)}
    return Measured(figures, (*faults[:8], *foreign[:8]))


async def _matrix(
    made: Court, callers: Sequence[Caller], carriers: Sequence[str], dice: Random | None = None
) -> AsyncIterator[str]:
    """What is wrong with each answer; empty where nothing is. `dice` take a part of them."""
    asked = [
        (question, form, caller, carrier)
        for question in questions(str(made.project_id))
        for form in question.forms
        for caller, carrier in itertools.product(callers, carriers)
    ]
    for some in _by(asked if dice is None else dice.sample(asked, len(asked) // PART)):
        for fault in await asyncio.gather(*(_judge(made, *one) for one in some)):
            yield fault


def _by(asked: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(asked), AT_ONCE):
        yield asked[start : start + AT_ONCE]


async def _judge(made: Court, question: Question, form: Any, caller: Caller, carrier: str) -> str:
    method, target, headers, body, length = form
    due = caller.expected(question.needed)
    if due is None and length is not None:
        return ""  # it would be waited for
    answer = await made.ask(
        method, target, (*caller.headers(carrier), *headers), body, length=length
    )
    got = question.verdict(answer)
    if got == due and (due is not None or answer.status < 500):
        return ""
    return f"{question.name} ({target}), {caller.name} by {carrier}: {answer.status}, not {due}"


async def _foreign(made: Court, trial: Trial) -> list[str]:
    """What somebody sees or changes of a project that is not theirs, by ids that are right."""
    owner, stranger = made.callers["an admin's key"], made.stranger
    ids = await _things(made, owner)
    faults = []
    for name, method, target, body in _reaching(ids):
        answer = await made.json(stranger, method, target, body)
        trial.log.write("foreign", asked=name, status=answer.status)
        if CANARY.encode() in answer.body:
            faults.append(f"a stranger reads by {name}")
        if answer.ok and any(id in target for id in ids.values()) and method != "PUT":
            faults.append(f"a stranger is answered {answer.status} by {name}")
    for name, target in _kept(ids):
        if not (await made.json(owner, "GET", target)).ok:
            faults.append(f"a stranger took away {name}")
    return faults


async def _things(made: Court, owner: Caller) -> dict[str, str]:
    """One of each kind of thing in the project, all with a word that nobody else has."""
    document = {"content": f"{CANARY} is kept here", "id": "canary", "metadata": {"w": CANARY}}
    await made.json(owner, "POST", "/documents", document)
    session = await made.json(owner, "POST", "/sessions", {"system": CANARY})
    key = await made.json(owner, "POST", "/keys", {"name": CANARY, "scopes": ["read"]})
    skill = {"parameters": {"text": CANARY}, "background": True}
    run = await made.json(owner, "POST", "/skills/template-skill/execute", skill)
    assert session.ok and key.ok and run.ok, (session, key, run)
    found = {"document": "canary", "session": session.json()["id"], "key": key.json()["id"]}
    run_id = run.json().get("run_id") or run.json().get("id")
    return found | ({"run": str(run_id)} if run_id else {})


def _reaching(ids: dict[str, str]) -> Iterator[tuple[str, str, str, Any]]:
    """Every route with every id, and what finds things without one."""
    for route in dict.fromkeys(routes.routes(routes.app())):
        if "{" in route.path and not isinstance(route.policy, Anybody):
            for kind, id in ids.items():
                yield f"{route.name} with a {kind}", route.method, filled(route.path, id), {}
    for path in ("/documents?limit=1000", f"/documents?search={CANARY}", "/documents/export"):
        yield path, "GET", path, None
    for path in ("/runs", "/sessions", "/keys", "/audit", "/inference/usage"):
        yield path, "GET", path, None
    for mode in ("semantic", "keyword", "hybrid"):
        query = {"query": f"{CANARY} is kept here", "mode": mode}
        yield f"search by {mode}", "POST", "/search/semantic", query
    yield "a filter", "POST", "/search/semantic", {"query": "x", "filter": {"w": CANARY}}


def _kept(ids: dict[str, str]) -> Iterator[tuple[str, str]]:
    places = {"document": "/documents/", "session": "/sessions/", "key": "/keys/", "run": "/runs/"}
    for kind, id in ids.items():
        yield f"the {kind}", places[kind] + id


async def measure_carriers(trial: Trial) -> Measured:
    """The same by each carrier, then tokens that are carried in ways of their own."""
    async with court(trial) as made:
        chosen = [*made.callers.values()]
        if not trial.full:
            chosen = [c for c in chosen if c.status is not None or "for" not in c.name]
        asked, faults = 0, list[str]()
        dice = None if trial.full else Random(trial.seed)
        async for fault in _matrix(made, chosen, CARRIERS, dice):
            asked += 1
            faults += [fault] if fault else []
        odd = [fault async for fault in _odd(made)]
        strange = [fault for fault in odd if fault]
        trial.log.write("faults", matrix=faults, odd=strange)
    figures = {"asked": asked, "odd ways": len(odd), "other verdicts": len(faults) + len(strange)}
    return Measured(figures, (*faults[:8], *strange[:8]))


PLACES = (
    ("GET", "/keys", (), b""),
    ("POST", "/search/semantic", (JSON,), b'{"'),
    ("POST", "/v1/chat/completions", (JSON,), b'{"'),
    ("POST", "/mcp", MCP, rpc("tools/list", {})),
)


async def _odd(made: Court) -> AsyncIterator[str]:
    good, other = made.callers["an admin's key"].token, made.callers["a key for read"].token
    assert good is not None and other is not None
    for (method, target, headers, body), (due, told, query) in itertools.product(
        PLACES, [*ways(good, other)]
    ):
        answer = await made.ask(method, target + query, (*told, *headers), body)
        unread = answer.status == 400 and b"invalid_request" not in answer.body
        let_in = answer.status not in (401, 403) and not unread
        wrong = let_in != due or answer.status >= 500 or answer.status == 0
        shown = [(n, v[:60]) for n, v in told]
        yield f"{method} {target}{query} with {shown}: {answer.status}" if wrong else ""


def ways(good: str, other: str) -> Iterator[tuple[bool, Headers, str]]:
    """Whether one is let in, by which headers, and with what behind the path."""
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        yield True, (("Authorization", f"{scheme} {good}"),), ""
    yield True, (("Authorization", f"  Bearer   {good}  "),), ""
    yield True, (*carried(good, "bearer"), *carried(good, "x-api-key")), ""
    yield True, carried(good, "bearer") * 2, ""
    yield True, (*carried(good, "cookie"), *carried(good, "bearer")), ""
    for value in _wrong_values(good):
        yield False, (("Authorization", value),), ""
    for value in ("", " ", "null", f"Bearer {good}", *_wrong_tokens(good)):
        yield False, (("x-api-key", value),), ""
    for value in _wrong_cookies(good, other):
        yield False, (("Cookie", value), ("Origin", "http://127.0.0.1")), ""
    for one, two in itertools.permutations(("bearer", "x-api-key", "cookie"), 2):
        yield False, (*carried(good, one), *carried(other, two)), ""
        yield False, (*carried(good, one), *carried("x", two)), ""
    for carrier in ("bearer", "x-api-key"):
        yield False, (*carried(good, carrier), *carried(other, carrier)), ""
    for name in ("api_key", "access_token", "token", "key", "x-api-key", "authorization"):
        yield False, (), f"?{name}={good}"
        yield False, (), f"?{name}=Bearer%20{good}"
    for name in ("Proxy-Authorization", "X-Auth-Token", "Api-Key", "X-Access-Token", "X-Token"):
        yield False, ((name, f"Bearer {good}"),), ""
        yield False, ((name, good),), ""
    yield False, (("X-Forwarded-User", "admin"), ("X-Remote-User", "admin")), ""
    yield False, (*carried(good, "bearer"), ("X-Project", "a"), ("X-Project", "b")), ""


def _wrong_values(good: str) -> Iterator[str]:
    yield from ("", " ", "Bearer", "Bearer ", "Bearer null", "Bearer undefined", "Bearer None")
    yield from (good, f"Basic {good}", f"Token {good}", f"Bearer:{good}", f"Bearer\t{good}")
    yield from (
        f"Bearer {good} {good}",
        f"Bearer {good},",
        f"Bearer {good}\xa0",
        f"Bearer\xa0{good}",
    )
    yield from (f"Bearer {token}" for token in _wrong_tokens(good))


def _wrong_tokens(good: str) -> Iterator[str]:
    """What looks like a good key, and keys that begin as it does, with checksums that fit."""
    _, id, secret, checksum = good.split("_")
    yield from (
        good.upper(),
        good[:-1],
        good + "a",
        good[1:],
        f"{good}=",
        f'"{good}"',
        f"{good}\xe9",
    )
    yield from (good.replace("_", "-"), good.replace("_", "."), f"aidb_{id}", f"aidb_{id}__", id)
    yield from ("a" * 8192, "aidb_" + "a" * 20_000, "%00", "' OR '1'='1", "../../etc/passwd", "{}")
    yield from (fitting(id, secret[:n] + turned(secret[n:])) for n in (0, 1, 26, 51))
    yield fitting(turned(id), secret)
    yield f"aidb_{id}_{secret}_{turned(checksum)}"


def fitting(id: str, secret: str) -> str:
    """A key with a checksum that fits."""
    from ai_stack.services.auth.credentials import _checksum  # noqa: PLC0415 (as a forger would)

    return f"aidb_{id}_{secret}_{_checksum(id, secret)}"


def turned(text: str) -> str:
    """The same with another first character."""
    return ("b" if text[:1] != "b" else "c") + text[1:]


def _wrong_cookies(good: str, other: str) -> Iterator[str]:
    yield from ("", "aidb_session=", "aidb_session=null", f'aidb_session="{good}"')
    yield from (f"AIDB_SESSION={good}", f"aidb_sessions={good}", f"x=aidb_session={good}")
    yield from (f"aidb_session={good}; aidb_session={other}", f"aidb_session={good}; aidb_session=")
    yield from (f"aidb_session={token}" for token in _wrong_tokens(good) if ";" not in token)


ROWS = (
    Row(
        14,
        "every route, method and tool by whoever may not",
        "0 unexpected answers, refusals before any body, nothing of another project",
        measure,
        ("scopeless", "lasting-keys", "body-first"),
        calm=True,
    ),
    Row(
        15,
        "the same by every carrier, and carried in odd ways",
        "identical verdicts; 0 accepted that are odd",
        measure_carriers,
        ("prefix-keys", "loose-cookies"),
        calm=True,
    ),
)
