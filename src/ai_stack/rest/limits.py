"""Limits at the faces: which group a path is of, and the headers that say how a caller stands.

`RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-11;
`x-ratelimit-…` are what OpenAI's clients read, under /v1.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from starlette.types import Scope

from ai_stack.errors import InvalidRequest
from ai_stack.models.principals import Principal
from ai_stack.services.limits import Limits, Plan
from ai_stack.services.limits.budgets import Budget
from ai_stack.services.limits.rules import EMBEDDING, GENERATING, GROUPS, What

Header: TypeAlias = tuple[bytes, bytes]
Names: TypeAlias = tuple[bytes, bytes, bytes]

STATE = "limits"
ENGINES = {
    "chat": GENERATING,
    "completions": GENERATING,
    "responses": GENERATING,
    "messages": GENERATING,
    "generate": GENERATING,
    "parallel": GENERATING,
    "embeddings": EMBEDDING,
    "rerank": EMBEDDING,
    "embed": EMBEDDING,
}
UNITS = {
    "requests": "",
    "bytes": ';qu="content-bytes"',
    "tokens": ';qu="tokens"',
    "documents": ';qu="documents"',
}
OF_OPENAI: Mapping[What, Names] = {
    "requests": (
        b"x-ratelimit-limit-requests",
        b"x-ratelimit-remaining-requests",
        b"x-ratelimit-reset-requests",
    ),
    "tokens": (
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-tokens",
    ),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How the caller of one request stands: told by the response, whatever it is."""

    limits: Limits
    plan: Plan
    is_openai: bool

    def headers(self) -> list[Header]:
        now = time.time()
        budgets = self.limits.standing(self.plan, now)
        told = [f'"{b.rule.title}";r={b.left};t={int(b.ends_at - now) + 1}' for b in budgets]
        headers = [(b"ratelimit-policy", _policy(self.plan)), (b"ratelimit", _joined(told))]
        if self.is_openai:
            for names, places in _told_to_openai(self.plan):
                _add(headers, names, [budgets[place] for place in places], now)
        return headers


async def admit(scope: Scope, limits: Limits, principal: Principal) -> None:
    """Count a request and its body, once; raises LimitExceeded.

    InvalidRequest where bytes are limited and the body does not say how many it has.
    """
    state, path = scope["state"], scope["path"]
    if STATE in state:
        return
    plan = limits.plan(principal, group_of(path))
    if not plan.rules:
        return
    state[STATE] = Standing(limits, plan, path.startswith("/v1/"))
    declared = state.get("declared", b"0")
    if not declared.isdigit() and any(rule.what == "bytes" for rule in plan.rules):
        raise InvalidRequest("These credentials have a limit of bytes: send a Content-Length.")
    size_bytes = int(declared) if declared.isdigit() else 0
    await limits.take(plan, {"requests": 1, "bytes": size_bytes})


def headers_of(state: Mapping[str, object]) -> list[Header]:
    """What a response tells of the limits of who asked, nothing where there are none."""
    standing = state.get(STATE)
    return standing.headers() if isinstance(standing, Standing) else []


@lru_cache(4096)
def group_of(path: str) -> str | None:
    """The group of paths that a path belongs to."""
    first, _, rest = path.strip("/").partition("/")
    if first in ("v1", "inference"):
        return ENGINES.get(rest.partition("/")[0])
    if first == "sessions":
        return GENERATING
    return first if first in GROUPS else None


@lru_cache(1024)
def _policy(plan: Plan) -> bytes:
    return _joined(f'"{r.title}";q={r.most};w={r.window_s}{UNITS[r.what]}' for r in plan.rules)


def _joined(items: Iterable[str]) -> bytes:
    return ", ".join(items).encode()


@lru_cache(1024)
def _told_to_openai(plan: Plan) -> Sequence[tuple[Names, Sequence[int]]]:
    """The headers that a plan's clients get of OpenAI's, and the places of their limits in it."""
    found = (
        (names, [place for place, rule in enumerate(plan.rules) if rule.what == what])
        for what, names in OF_OPENAI.items()
    )
    return [(names, places) for names, places in found if places]


def _add(headers: list[Header], names: Names, budgets: Sequence[Budget], now: float) -> None:
    """The narrowest of these limits, as OpenAI tells it."""
    one = budgets[0] if len(budgets) == 1 else min(budgets, key=_left)
    headers.append((names[0], b"%d" % one.rule.most))
    headers.append((names[1], b"%d" % one.left))
    headers.append((names[2], _duration(int(one.ends_at - now) + 1)))


def _left(budget: Budget) -> int:
    return budget.left


@lru_cache(4096)
def _duration(seconds: int) -> bytes:
    """As OpenAI writes it: 6m0s, 1s."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, rest)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
