"""What limits there are, when their windows end, and how they are told."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from starlette.types import Message, Scope

from ai_stack.caches.counters import Count, MemoryCounters, Taken
from ai_stack.database import Database
from ai_stack.errors import InvalidRequest, LimitExceeded, Unavailable
from ai_stack.models.inference import Call
from ai_stack.models.principals import Principal
from ai_stack.rest import limits as face
from ai_stack.rest.limits import LINES, admit, group_of, tell
from ai_stack.rest.openai.errors import headers_of as headers_of_failure
from ai_stack.rest.openai.errors import openai_error, status_of
from ai_stack.services.auth.keys import check_limits
from ai_stack.services.inference.charging import _of as expected
from ai_stack.services.limits import Limits
from ai_stack.services.limits.rules import NAMES, Rule, rules_of

NOW = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC).timestamp()


class Away(MemoryCounters):
    """Counters of a server that is down."""

    down = True

    async def take(self, count: Count) -> Taken:
        if self.down:
            raise Unavailable
        return await super().take(count)

    async def add(self, counts: Any) -> None:
        if self.down:
            raise Unavailable
        await super().add(counts)


def limits_over(counters: MemoryCounters, without: Any = "local") -> Limits:
    return Limits.over(counters, cast(Database, None), without)


def caller(**limits: int) -> Principal:
    return Principal(key_id="abcdefgh", limits={"key:abcdefgh": limits})


def headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    head: Message = {"headers": []}
    tell(head, scope["state"])
    return list(head["headers"])


async def outcomes(limits: Limits, who: Principal, times: int) -> list[bool]:
    seen = []
    for _ in range(times):
        try:
            await limits.reserve(who, "requests", 1)
            seen.append(True)
        except LimitExceeded:
            seen.append(False)
    return seen


@pytest.mark.parametrize(
    ("period", "ends"),
    [
        ("minute", datetime(2027, 1, 1, tzinfo=UTC)),
        ("hour", datetime(2027, 1, 1, tzinfo=UTC)),
        ("day", datetime(2027, 1, 1, tzinfo=UTC)),
        ("month", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_windows_end_with_the_clock(period: str, ends: datetime) -> None:
    rule = Rule.read("key:a", f"requests_per_{period}", 5)
    assert rule.ends_at(NOW) == ends.timestamp()
    assert rule.ends_at(ends.timestamp()) > ends.timestamp()


def test_a_month_ends_with_the_month() -> None:
    rule = Rule.read("key:a", "requests_per_month", 5)
    for month, after in ((1, 2), (2, 3), (4, 5), (11, 12)):
        moment = datetime(2028, month, 29, 5, tzinfo=UTC).timestamp()
        assert rule.began_at(moment) == datetime(2028, month, 1, tzinfo=UTC).timestamp()
        assert rule.ends_at(moment) == datetime(2028, after, 1, tzinfo=UTC).timestamp()


def test_a_limit_of_a_group_holds_there_alone() -> None:
    limits = {
        "key:a": {"requests_per_day": 9, "chat.requests_per_day": 5},
        "project:b": {"search.bytes_per_hour": 7, "unknown_per_day": 1},
    }
    names = {group: [r.name for r in rules_of(limits, group)] for group in (None, "chat", "search")}
    assert names == {
        None: ["requests_per_day"],
        "chat": ["requests_per_day", "chat.requests_per_day"],
        "search": ["requests_per_day", "search.bytes_per_hour"],
    }


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/messages/count_tokens", "chat"),
        ("/inference/generate", "chat"),
        ("/sessions/1/messages", "chat"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/rerank", "embeddings"),
        ("/v1/models", None),
        ("/inference/usage", None),
        ("/documents/a/b", "documents"),
        ("/search/semantic", "search"),
        ("/skills/pdf/execute", "skills"),
        ("/agent/run", "agent"),
        ("/mcp/knowledge", "mcp"),
        ("/health", None),
        ("", None),
    ],
)
def test_every_path_is_of_one_group(path: str, group: str | None) -> None:
    assert group_of(path) == group


def test_only_limits_that_are_counted_can_be_set() -> None:
    check_limits(dict.fromkeys(NAMES, 5))
    for wrong in ("requests", "mcp.tokens_per_day", "documents.documents_per_day", "x" * 5000):
        with pytest.raises(InvalidRequest):
            check_limits({wrong: 5})
    for most in (-1, 10**16):
        with pytest.raises(InvalidRequest):
            check_limits({"requests_per_day": most})


async def test_who_has_no_limits_is_not_counted() -> None:
    limits = limits_over(MemoryCounters())
    scope: Scope = {"path": "/documents", "state": {}}
    await admit(scope, limits, Principal())
    assert headers(scope) == []


async def test_a_request_is_counted_once_however_often_it_is_admitted() -> None:
    limits, who = limits_over(MemoryCounters()), caller(requests_per_hour=1)
    scope: Scope = {"path": "/documents", "state": {"declared": b"12"}}
    for _ in range(3):
        await admit(scope, limits, who)
    with pytest.raises(LimitExceeded):
        await admit({"path": "/documents", "state": {}}, limits, who)


async def test_headers_have_the_form_of_their_standard() -> None:
    limits = limits_over(MemoryCounters())
    who = caller(requests_per_minute=60, tokens_per_hour=900, bytes_per_hour=50)
    scope: Scope = {"path": "/v1/chat/completions", "state": {"declared": b"12"}}
    await admit(scope, limits, who)
    told = dict(headers(scope))
    assert told[b"ratelimit-policy"] == (
        b'"key.requests_per_minute";q=60;w=60, "key.tokens_per_hour";q=900;w=3600;qu="tokens",'
        b' "key.bytes_per_hour";q=50;w=3600;qu="content-bytes"'
    )
    pieces = [part.partition(b";t=") for part in told[b"ratelimit"].split(b", ")]
    assert [piece[0] for piece in pieces] == [
        b'"key.requests_per_minute";r=59',
        b'"key.tokens_per_hour";r=900',
        b'"key.bytes_per_hour";r=38',
    ]
    assert all(0 < int(piece[2]) <= 3600 for piece in pieces)
    assert told[b"x-ratelimit-limit-requests"] == b"60"
    assert told[b"x-ratelimit-remaining-tokens"] == b"900"
    head: Message = {"headers": []}
    tell(head, {**scope["state"], LINES: True})
    sent = [tuple(line.split(b": ")) for line in head[LINES].split(b"\r\n")]
    assert sent == [*told.items(), (b"",)]


async def test_openai_clients_are_told_of_the_limit_that_has_least_left() -> None:
    limits = limits_over(MemoryCounters())
    who = caller(requests_per_minute=60, requests_per_hour=50)
    for left in (49, 48):
        scope: Scope = {"path": "/v1/models", "state": {}}
        await admit(scope, limits, who)
        told = dict(headers(scope))
        assert told[b"x-ratelimit-limit-requests"] == b"50"
        assert told[b"x-ratelimit-remaining-requests"] == b"%d" % left


@pytest.mark.parametrize(
    ("seconds", "written"), [(1, "1s"), (59, "59s"), (360, "6m0s"), (3661, "1h1m1s")]
)
def test_durations_are_written_as_openai_does(seconds: int, written: str) -> None:
    assert face._duration(seconds) == written


def test_a_refusal_tells_openai_clients_what_they_know() -> None:
    error = LimitExceeded("Too much.", opens_in_s=17)
    assert status_of(error) == 429
    assert headers_of_failure(error) == [(b"retry-after", b"17")]
    told = cast(dict[str, Any], openai_error(error, "id"))["error"]
    assert (told["type"], told["code"]) == ("rate_limit_error", "rate_limit_exceeded")


async def test_another_limit_of_a_key_begins_anew() -> None:
    limits = limits_over(MemoryCounters())
    assert await outcomes(limits, caller(requests_per_hour=1), 2) == [True, False]
    assert await outcomes(limits, caller(requests_per_hour=2), 3) == [True, True, False]


@pytest.mark.parametrize(
    ("policy", "seen"),
    [("local", [True] * 3 + [False]), ("refuse", [False] * 4), ("allow", [True] * 4)],
)
async def test_without_a_server_the_policy_decides(policy: str, seen: list[bool]) -> None:
    limits = limits_over(Away(), policy)
    assert await outcomes(limits, caller(requests_per_hour=3), 4) == seen
    assert limits.degraded >= sum(seen)
    assert limits.degraded > 0


async def test_what_was_counted_before_and_meanwhile_counts() -> None:
    counters, who = Away(), caller(requests_per_hour=5)
    limits = limits_over(counters)
    counters.down = False
    assert await outcomes(limits, who, 2) == [True, True]
    counters.down = True
    assert await outcomes(limits, who, 2) == [True, True]
    counters.down = False
    await limits.budgets.look()
    assert await outcomes(limits, who, 3) == [True, False, False]


async def test_what_is_owed_is_not_lost_while_the_server_is_down() -> None:
    counters, who = Away(), caller(requests_per_hour=5)
    limits = limits_over(counters)
    assert await outcomes(limits, who, 4) == [True] * 4
    for _ in range(2):
        with pytest.raises(Unavailable):
            await limits.budgets.look()
    counters.down = False
    await limits.budgets.look()
    assert await outcomes(limits, who, 2) == [True, False]


def test_counters_of_the_past_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = MemoryCounters()
    for n in range(100):
        counters._set(Count(f"old{n}", 5, 1, -1), 1)
    counters._swept_at -= 61
    counters._set(Count("new", 5, 1, 60), 1)
    assert list(counters._used) == ["new"]


@pytest.mark.parametrize(
    ("operation", "body", "tokens"),
    [
        ("chat", {"max_tokens": 20}, 3 + 20),
        ("chat", {"max_completion_tokens": 30, "max_tokens": 20}, 3 + 30),
        ("chat", {}, 3 + 512),
        ("embedding", {}, 3),
        ("rerank", {}, 3),
    ],
)
def test_what_is_expected_of_a_call(operation: Any, body: Any, tokens: int) -> None:
    assert expected(Call(operation, body, b"x" * 8)) == tokens


async def test_who_operates_the_machine_itself_can_always_raise_a_limit() -> None:
    limits = limits_over(MemoryCounters())
    project = {"project:p": {"requests_per_hour": 0}}
    operator, key = Principal(limits=project), Principal(key_id="abcdefgh", limits=project)
    assert await outcomes(limits, operator, 2) == [True, True]
    assert await outcomes(limits, key, 1) == [False]
