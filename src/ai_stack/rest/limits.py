"""Limits at the faces: which group a path is of, and the headers that say how a caller stands.

`RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-11;
`x-ratelimit-…` are what OpenAI's clients read, under /v1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import Scope

from ai_stack.errors import InvalidRequest
from ai_stack.models.principals import Principal
from ai_stack.services.limits import Limits, Plan, Quota
from ai_stack.services.limits.rules import EMBEDDING, GENERATING, GROUPS, Rule, What

Header = tuple[bytes, bytes]

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
UNITS = {"requests": "", "bytes": ';qu="content-bytes"'}
TOLD_TO_OPENAI: tuple[What, ...] = ("requests", "tokens")


@dataclass(frozen=True, slots=True)
class Standing:
    """How the caller of one request stands: told by the response, whatever it is."""

    limits: Limits
    plan: Plan
    is_openai: bool

    def headers(self) -> list[Header]:
        quotas = self.limits.quotas(self.plan)
        told = ", ".join([f'"{q.rule.title}";r={q.left};t={q.opens_in_s}' for q in quotas])
        headers = [
            (b"ratelimit-policy", _policy(self.plan.rules)),
            (b"ratelimit", told.encode()),
        ]
        if self.is_openai:
            headers += _of_openai(quotas)
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
def _policy(rules: Sequence[Rule]) -> bytes:
    return ", ".join(
        f'"{rule.title}";q={rule.most};w={rule.window_s}' + UNITS.get(rule.what, _unit(rule))
        for rule in rules
    ).encode()


def _unit(rule: Rule) -> str:
    return f';qu="{rule.what}"'


def _of_openai(quotas: Iterable[Quota]) -> list[Header]:
    """The narrowest limit of requests and of tokens, as OpenAI tells them."""
    headers: list[Header] = []
    for what in TOLD_TO_OPENAI:
        told = [quota for quota in quotas if quota.rule.what == what]
        if told:
            one = min(told, key=lambda quota: quota.left)
            headers += [
                (b"x-ratelimit-limit-%b" % what.encode(), b"%d" % one.rule.most),
                (b"x-ratelimit-remaining-%b" % what.encode(), b"%d" % one.left),
                (b"x-ratelimit-reset-%b" % what.encode(), _duration(one.opens_in_s)),
            ]
    return headers


def _duration(seconds: int) -> bytes:
    """As OpenAI writes it: 6m0s, 1s."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, rest)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
