"""Limits at the faces: which group a path is of, and the headers that say how a caller stands.

`RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-11;
`x-ratelimit-…` are what OpenAI's clients read, under /v1.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from starlette.types import Scope

from ai_stack.errors import InvalidRequest
from ai_stack.models.principals import Principal
from ai_stack.services.limits import Limits, Plan
from ai_stack.services.limits.budgets import Budget
from ai_stack.services.limits.rules import EMBEDDING, GENERATING, GROUPS, Rule, What

Header: TypeAlias = tuple[bytes, bytes]
Headers: TypeAlias = Sequence[Header]
Names: TypeAlias = tuple[bytes, bytes, bytes]

STATE = "limits"
ONE: Mapping[What, int] = {"requests": 1}
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


@dataclass(slots=True)
class Quota:
    """How the caller of one request stands: told by the response, whatever it is."""

    limits: Limits
    plan: Plan
    is_openai: bool
    amounts: Mapping[What, int]

    def headers(self) -> list[Header]:
        now = time.time()
        told, budgets = _told(self.plan), self.limits.standing(self.plan, now)
        left = [budget.left for budget in budgets]
        if int(now) != told.second:
            told.begin(int(now), budgets)
        headers = [told.policy, (b"ratelimit", told.form % tuple(left))]
        if self.is_openai:
            for most, name, opens, places in told.to_openai:
                place = min(places, key=left.__getitem__) if places[1:] else places[0]
                headers += (most[place], (name, b"%d" % left[place]), opens[place])
        return headers


class Told:
    """What the headers of one plan have in common, for as long as a second lasts."""

    def __init__(self, plan: Plan) -> None:
        self.rules, self.whats = plan.rules, plan.whats
        self.policy = (b"ratelimit-policy", ", ".join(map(_policy, plan.rules)).encode())
        self.form = b""  # of the header that says what is left, for what is left of each
        self.to_openai: list[tuple[Headers, bytes, Headers, Sequence[int]]] = []
        self.second = 0

    def begin(self, second: int, budgets: Sequence[Budget]) -> None:
        """Know how long it is until each limit opens."""
        opens_in = [max(int(budget.ends_at) - second, 1) for budget in budgets]
        told = zip(self.rules, opens_in, strict=True)
        self.form = ", ".join(f'"{rule.title}";r=%d;t={s}' for rule, s in told).encode()
        self.to_openai = [*self._openai([_duration(s) for s in opens_in])]
        self.second = second

    def _openai(
        self, opens: Sequence[bytes]
    ) -> Iterator[tuple[Headers, bytes, Headers, Sequence[int]]]:
        """The headers that clients get of OpenAI's, and the places of their limits in the plan."""
        for what, (most, left, reset) in OF_OPENAI.items():
            if what in self.whats:
                places = [n for n, rule in enumerate(self.rules) if rule.what == what]
                known = [(most, b"%d" % rule.most) for rule in self.rules]
                yield known, left, [(reset, one) for one in opens], places


def is_admitted(scope: Scope, limits: Limits, principal: Principal) -> bool:
    """Count a request and its body, once, where that can be done at once; else False.

    InvalidRequest where bytes are limited and the body does not say how many it has.
    """
    state, path = scope["state"], scope["path"]
    if STATE in state:
        return True
    plan = limits.plan(principal, group_of(path))
    if not plan.rules:
        return True
    amounts: Mapping[What, int] = ONE
    if "bytes" in plan.whats:
        amounts = {"requests": 1, "bytes": _size_bytes(state.get("declared", b"0"))}
    state[STATE] = Quota(limits, plan, path.startswith("/v1/"), amounts)
    return limits.take_held(plan, amounts) is not None


async def admit(scope: Scope, limits: Limits, principal: Principal) -> None:
    """Count a request and its body, once; raises as `is_admitted`, and LimitExceeded."""
    if not is_admitted(scope, limits, principal):
        await lease(scope)


async def lease(scope: Scope) -> None:
    """Count a request that could not be counted at once."""
    quota: Quota = scope["state"][STATE]
    await quota.limits.take(quota.plan, quota.amounts)


def _size_bytes(declared: bytes) -> int:
    if not declared.isdigit():
        raise InvalidRequest("These credentials have a limit of bytes: send a Content-Length.")
    return int(declared)


def headers_of(state: Mapping[str, object]) -> list[Header]:
    """What a response tells of the limits of who asked, nothing where there are none."""
    quota = state.get(STATE)
    return quota.headers() if isinstance(quota, Quota) else []


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
def _told(plan: Plan) -> Told:
    return Told(plan)


def _policy(rule: Rule) -> str:
    return f'"{rule.title}";q={rule.most};w={rule.window_s}{UNITS[rule.what]}'


@lru_cache(4096)
def _duration(seconds: int) -> bytes:
    """As OpenAI writes it: 6m0s, 1s."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, rest)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
