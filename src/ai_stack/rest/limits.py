"""Limits at the faces: which group a path is of, and the headers that say how a caller stands.

`RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-11;
`x-ratelimit-…` are what OpenAI's clients read, under /v1.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import Message, Scope

from ai_stack.errors import InvalidRequest
from ai_stack.models.principals import Principal
from ai_stack.services.limits import ONE, Amounts, Limits, Plan
from ai_stack.services.limits.budgets import Budget
from ai_stack.services.limits.rules import EMBEDDING, GENERATING, GROUPS, Rule, What

STATE = "limits"
LINES = "lines"  # in a request's state: its server takes lines of the head as they are sent
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
OF_OPENAI: tuple[What, ...] = ("requests", "tokens")


@dataclass(slots=True)
class Quota:
    """How the caller of one request stands: told by the response, whatever it is."""

    limits: Limits
    plan: Plan
    is_openai: bool
    amounts: Amounts

    def lines(self) -> bytes:
        """The lines of a response's head that say it, as they are sent."""
        now = time.time()
        told, budgets = _told(self.plan, self.is_openai), self.limits.standing(self.plan, now)
        if int(now) != told.second:
            told.begin(int(now), budgets)
        left = [budget.left for budget in budgets]
        if not told.places:
            return told.form(()) % tuple(left)
        least = tuple([min(n, key=left.__getitem__) if n[1:] else n[0] for n in told.places])
        return told.form(least) % (*left, *[left[place] for place in least])


class Told:
    """What the heads of one plan have in common, for as long as a second lasts.

    `places` are those of the limits in the plan that OpenAI's clients get told, by what they
    count: of several the one that has least left.
    """

    def __init__(self, plan: Plan, is_openai: bool) -> None:
        self.rules, self.second = plan.rules, 0
        self.whats = [what for what in OF_OPENAI if is_openai and what in plan.whats]
        self.places = [[n for n, r in enumerate(plan.rules) if r.what == w] for w in self.whats]
        self._policy = b"ratelimit-policy: " + ", ".join(map(_policy, plan.rules)).encode()
        self._opens_in: list[int] = []
        self._forms: dict[tuple[int, ...], bytes] = {}

    def begin(self, second: int, budgets: Sequence[Budget]) -> None:
        """Know how long it is until each limit opens."""
        self._opens_in = [max(int(budget.ends_at) - second, 1) for budget in budgets]
        self._forms.clear()
        self.second = second

    def form(self, least: tuple[int, ...]) -> bytes:
        """The lines, for what is left of each limit and then of those at the least places."""
        found = self._forms.get(least)
        if found is None:
            found = self._forms[least] = b"".join(line + b"\r\n" for line in self._lines(least))
        return found

    def _lines(self, least: tuple[int, ...]) -> Iterator[bytes]:
        told = zip(self.rules, self._opens_in, strict=True)
        yield self._policy
        yield b"ratelimit: " + ", ".join(f'"{rule.title}";r=%d;t={s}' for rule, s in told).encode()
        for what, place in zip(self.whats, least, strict=True):
            most, opens_in = self.rules[place].most, _duration(self._opens_in[place])
            yield f"x-ratelimit-limit-{what}: {most}".encode()
            yield f"x-ratelimit-remaining-{what}: %d".encode()
            yield f"x-ratelimit-reset-{what}: {opens_in}".encode()


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
    amounts = ONE
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


def tell(head: Message, state: Mapping[str, object]) -> None:
    """Have the head of a response say how the limits of who asked stand, where there are any.

    In lines that our own server sends as they are: a header each costs a multiple.
    """
    quota = state.get(STATE)
    if not isinstance(quota, Quota):
        return
    lines = quota.lines()
    if LINES in state:
        head[LINES] = lines
    else:
        head["headers"] = [*head["headers"], *_headers(lines)]


def _headers(lines: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in lines.splitlines():
        name, _, value = line.partition(b": ")
        yield name, value


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
def _told(plan: Plan, is_openai: bool) -> Told:
    return Told(plan, is_openai)


def _policy(rule: Rule) -> str:
    return f'"{rule.title}";q={rule.most};w={rule.window_s}{UNITS[rule.what]}'


def _duration(seconds: int) -> str:
    """As OpenAI writes it: 6m0s, 1s."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
