"""Limits over real servers: PostgreSQL, Redis, and gateways that share them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

import gateways
import servers
from ai_stack.caches import open_cache
from ai_stack.caches.conversations import open_conversations
from ai_stack.caches.counters import Count, open_counters
from ai_stack.caches.pipeline import Address, Pipeline
from ai_stack.cli.diagnosis import Stack as DoctorStack
from ai_stack.cli.diagnosis import servers as diagnosis
from ai_stack.database import Database, open_database
from ai_stack.errors import AIStackError, LimitExceeded, TooLarge
from ai_stack.models.documents import NewDocument
from ai_stack.models.inference import InferenceRecord, Usage
from ai_stack.models.principals import DEFAULT_PROJECT, Principal, Scope
from ai_stack.models.runs import ENDED
from ai_stack.models.trust import NewKey
from ai_stack.services.inference.charging import Charge
from ai_stack.services.limits import Limits
from ai_stack.services.limits.budgets import Budget
from ai_stack.services.limits.rules import Rule
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack

CHAT = {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 20}


@pytest.fixture(scope="module")
def redis() -> Iterator[servers.Redis]:
    with servers.redis("--maxmemory", "32mb") as started:
        yield started


@pytest.fixture(scope="module")
def settings(memory_settings: Settings, redis: servers.Redis) -> Settings:
    return memory_settings.model_copy(
        update={"redis_url": SecretStr(f"unix://{redis.socket}"), "auth": "required"}
    )


def limited(**limits: int) -> Principal:
    """Somebody of whom no other test knows."""
    subject = f"key:{uuid4().hex[:8]}"
    return Principal(name="limited", key_id=subject[4:], limits={subject: limits})


def only(limits: Limits, principal: Principal, now: float | None = None) -> Budget:
    """What a process holds of the one limit that a principal has."""
    ((subject, named),) = principal.limits.items()
    ((name, most),) = named.items()
    return limits.budgets.of(Rule.read(subject, name, most), now or time.time())


def alone(database: Database) -> Limits:
    """The limits of a process that does not look after them."""
    return Limits.over(open_counters("memory:"), database, "local")


@asynccontextmanager
async def several(database_url: str, redis: servers.Redis, number: int) -> AsyncIterator[list[Any]]:
    """The limits of so many gateways, each with connections of its own."""
    async with AsyncExitStack() as exits:
        found = []
        for _ in range(number):
            database = await open_database(database_url, connections=4)
            exits.push_async_callback(database.aclose)
            counters = open_counters(f"unix://{redis.socket}")
            exits.push_async_callback(counters.aclose)
            limits = Limits.over(counters, database, "local")
            await exits.enter_async_context(limits.running())
            found.append(limits)
        yield found


async def admitted(limits: Limits, principal: Principal, times: int) -> int:
    """How many of so many requests get in, one after another."""
    count = 0
    for _ in range(times):
        try:
            await limits.reserve(principal, "requests", 1)
            count += 1
        except LimitExceeded:
            pass
    return count


async def spent(database: Database, principal: Principal) -> int:
    subject = next(iter(principal.limits))
    async with database.control() as tx:
        row = await tx.row(
            "SELECT coalesce(sum(amount), 0)::bigint FROM spent WHERE subject = %(s)s",
            {"s": subject},
        )
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("name", "most", "others"),
    [("requests_per_day", 1000, {}), ("requests_per_hour", 777, {"requests_per_month": 10**6})],
)
async def test_gateways_admit_exactly_what_a_limit_allows(
    database_url: str, redis: servers.Redis, name: str, most: int, others: Mapping[str, int]
) -> None:
    caller = limited(**{name: most}, **others)
    async with several(database_url, redis, 4) as found:
        tasks = [admitted(limits, caller, 40) for limits in found for _ in range(20)]
        assert sum(await asyncio.gather(*tasks)) == most


async def test_amounts_of_all_sizes_never_pass_a_budget(
    database_url: str, database: Database, redis: servers.Redis
) -> None:
    caller = limited(documents_per_month=5000)

    async def write(limits: Limits, seed: int) -> int:
        total = 0
        for n in range(60):
            try:
                await limits.reserve(caller, "documents", amount := 1 + (seed * 7 + n * 3) % 40)
                total += amount
            except LimitExceeded:
                pass
        return total

    async with several(database_url, redis, 4) as found:
        tasks = [write(limits, seed) for seed, limits in enumerate(found * 8)]
        total = sum(await asyncio.gather(*tasks))
        assert 5000 - 4 * 40 < total <= 5000
    assert await spent(database, caller) == total  # what was leased and not used went back


async def test_a_gateway_that_is_killed_loses_a_slice_at_most(database: Database) -> None:
    caller = limited(requests_per_day=6400)
    killed, other = alone(database), alone(database)
    assert await admitted(killed, caller, 1) == 1
    assert await spent(database, caller) == 100  # of which 99 are lost
    assert await admitted(other, caller, 6400) == 6300


async def test_the_slice_shrinks_to_what_is_needed(database: Database) -> None:
    caller, limits = limited(requests_per_day=200), alone(database)
    held = []
    while await admitted(limits, caller, 1):
        held.append(only(limits, caller).held)
    assert (len(held), max(held), held[-30:]) == (200, 2, [0] * 30)


async def test_what_lies_idle_goes_back(database: Database) -> None:
    caller, limits = limited(requests_per_day=6400), alone(database)
    limits.budgets.budgets.idle_s = 0.0
    await admitted(limits, caller, 1)
    await asyncio.sleep(0.01)
    await limits.budgets.look()
    assert await spent(database, caller) == 1


async def test_a_budget_begins_anew_with_its_period(database: Database) -> None:
    caller, limits, today = limited(requests_per_day=64000), alone(database), time.time()
    await admitted(limits, caller, 1)
    tomorrow = only(limits, caller, today + 86400)
    assert (tomorrow.held, tomorrow.left) == (0, 64000)
    await limits.budgets.look()
    assert await spent(database, caller) == 1


async def test_a_lease_is_not_lost_with_who_asked_for_it(database: Database) -> None:
    caller, limits = limited(requests_per_day=100), alone(database)
    task = asyncio.create_task(admitted(limits, caller, 1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.3)
    await limits.budgets.close()
    assert await spent(database, caller) == 0


async def test_what_one_limit_refuses_counts_for_no_other(database: Database) -> None:
    caller = limited(requests_per_day=100, requests_per_hour=30)
    limits = alone(database)
    assert await admitted(limits, caller, 90) == 30
    await limits.budgets.close()
    assert await spent(database, caller) == 30


async def test_tokens_are_reserved_and_settled(database_url: str, redis: servers.Redis) -> None:
    async with several(database_url, redis, 1) as (limits,):
        caller = limited(tokens_per_hour=1000, tokens_per_day=1000)

        async def use(expected: int, used: int) -> None:
            held = await limits.reserve(caller, "tokens", expected, partly=True)
            limits.settle(held, used)
            await asyncio.sleep(0.35)

        await use(600, 100)
        await use(2000, 300)  # more than is left is reserved as what is left
        stand = limits.standing(limits.plan(caller, None), time.time())
        assert [one.left for one in stand] == [600, 600]
        await use(500, 900)  # which is more than is left: the answer was longer
        with pytest.raises(LimitExceeded):
            await limits.reserve(caller, "tokens", 1, partly=True)


@pytest.mark.parametrize(
    ("usage", "outcome", "first_token_ms", "used"),
    [
        (Usage(3, 4), "ok", None, 7),
        (None, "ok", None, 50),
        (None, "cancelled", 3.0, 50),
        (None, "cancelled", None, 0),
        (None, "failed", None, 0),
    ],
)
async def test_who_leaves_a_stream_has_had_what_came(
    database: Database, usage: Any, outcome: Any, first_token_ms: Any, used: int
) -> None:
    caller, limits = limited(tokens_per_day=1000), alone(database)
    held = await limits.reserve(caller, "tokens", 50, partly=True)
    record = InferenceRecord("", 0.0, DEFAULT_PROJECT, "", "chat", "m")
    record.usage, record.outcome, record.first_token_ms = usage, outcome, first_token_ms
    Charge(limits, held, 50).settled(record)
    await limits.budgets.close()
    assert await spent(database, caller) == used


@dataclass
class House:
    """A gateway, the stack behind it, and keys with limits."""

    client: httpx.AsyncClient
    stack: Stack

    async def key(self, **limits: int) -> dict[str, str]:
        named = {name.replace("__", "."): most for name, most in limits.items()}
        scopes = frozenset(Scope) - {Scope.OPERATE, Scope.MANAGE}
        _, token = await self.stack.keys.create(
            Principal(), NewKey("limited", scopes, limits=named)
        )
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
async def house(settings: Settings) -> AsyncIterator[House]:
    async with open_stack(settings) as stack, gateways.gateway(settings) as client:
        yield House(client, stack)


async def test_responses_say_how_the_caller_stands(house: House) -> None:
    headers = await house.key(requests_per_hour=2)
    first = await house.client.get("/documents", headers=headers)
    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == '"key.requests_per_hour";q=2;w=3600'
    told, left, opens = first.headers["ratelimit"].split(";")
    assert (told, left) == ('"key.requests_per_hour"', "r=1")
    assert 0 < int(opens.removeprefix("t=")) <= 3600
    await house.client.get("/documents", headers=headers)
    over = await house.client.get("/documents", headers=headers)
    assert over.status_code == 429
    assert over.json()["code"] == "rate_limit_exceeded"
    assert "requests_per_hour of this key, 2, is reached" in over.json()["detail"]
    assert 0 < int(over.headers["retry-after"]) <= 3600
    assert ";r=0;" in over.headers["ratelimit"]
    assert "x-ratelimit-limit-requests" not in over.headers


async def test_who_has_no_limits_is_told_nothing(house: House) -> None:
    found = await house.client.get("/documents", headers=await house.key())
    assert found.status_code == 200
    assert "ratelimit" not in found.headers


async def test_openai_clients_are_told_as_they_know_it(house: House) -> None:
    headers = await house.key(requests_per_minute=3, tokens_per_hour=5000)
    answers = [
        await house.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    told = answers[0].headers
    assert told["x-ratelimit-limit-requests"] == "3"
    assert told["x-ratelimit-remaining-requests"] == "2"
    assert told["x-ratelimit-reset-requests"].endswith("s")
    assert int(told["x-ratelimit-remaining-tokens"]) < 5000
    over = await house.client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert over.status_code == 429
    assert over.json()["error"]["code"] == "rate_limit_exceeded"
    assert over.json()["error"]["type"] == "rate_limit_error"
    assert int(over.headers["retry-after"]) > 0
    assert over.headers["x-ratelimit-remaining-requests"] == "0"
    other = await house.client.get("/v1/models", headers=headers)
    assert other.status_code == 429
    assert other.headers["x-ratelimit-limit-requests"] == "3"


async def test_tokens_end_with_their_budget(house: House) -> None:
    headers = await house.key(tokens_per_day=60)
    seen = []
    for n in range(20):
        body = {**CHAT, "messages": [{"role": "user", "content": f"count to {n}"}]}
        answer = await house.client.post("/v1/chat/completions", json=body, headers=headers)
        seen.append(answer.status_code)
        if answer.status_code == 200:
            assert answer.json()["usage"]["total_tokens"] < 60
    assert seen[0] == 200
    assert seen[-1] == 429
    assert sorted(seen) == seen
    listed = await house.client.get("/v1/models", headers=headers)
    assert listed.status_code == 200  # which takes no tokens


async def test_a_limit_of_one_group_leaves_the_others_alone(house: House) -> None:
    headers = await house.key(chat__requests_per_minute=1)
    chat = [
        (await house.client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code
        for _ in range(2)
    ]
    listed = await house.client.get("/documents", headers=headers)
    assert chat == [200, 429]
    assert listed.status_code == 200
    assert "ratelimit" not in listed.headers


async def test_documents_and_bytes_are_counted(house: House) -> None:
    headers = await house.key(documents_per_day=5, bytes_per_hour=100_000)
    batch = {"documents": [{"content": f"text {n}"} for n in range(3)]}
    post = house.client.post
    assert (await post("/documents", json=batch, headers=headers)).status_code == 201
    assert (await post("/documents", json=batch, headers=headers)).status_code == 429
    two = {"documents": batch["documents"][:2]}
    assert (await post("/documents", json=two, headers=headers)).status_code == 201
    many = {"documents": [{"content": "x"}] * 6}
    assert (await post("/documents", json=many, headers=headers)).status_code == 413
    large = {"content": "x" * 99_900}
    found = await post("/documents", json=large, headers=headers)
    assert found.status_code == 429
    assert "bytes_per_hour" in found.json()["detail"]


async def test_bytes_need_a_length(house: House) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"content": "x"}'

    headers = {**await house.key(bytes_per_hour=100), "Content-Type": "application/json"}
    found = await house.client.post("/documents", content=pieces(), headers=headers)
    assert found.status_code == 422
    assert "Content-Length" in found.json()["detail"]


async def test_what_fails_or_is_repeated_counts_once(house: House) -> None:
    headers = {**await house.key(documents_per_hour=2), "Idempotency-Key": uuid4().hex}
    for _ in range(3):
        found = await house.client.post("/documents", json={"content": "once"}, headers=headers)
        assert found.status_code == 201
        await asyncio.sleep(0.3)
    taken = {"content": "other", "id": uuid4().hex}
    plain = {"Authorization": headers["Authorization"]}
    assert (await house.client.post("/documents", json=taken, headers=plain)).status_code == 201
    found = await house.client.post("/documents", json=taken, headers=plain)
    assert found.status_code == 429


async def test_mcp_counts_as_well(house: House) -> None:
    headers = {
        **await house.key(mcp__requests_per_hour=1),
        "Accept": "application/json, text/event-stream",
    }
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    first = await house.client.post("/mcp", json=call, headers=headers)
    over = await house.client.post("/mcp", json=call, headers=headers)
    assert (first.status_code, over.status_code) == (200, 429)
    assert "requests_per_hour" in over.json()["error"]["message"]
    assert int(over.headers["retry-after"]) > 1
    assert ";r=0;" in over.headers["ratelimit"]


async def test_an_import_stops_at_the_limit_and_says_so(house: House) -> None:
    headers = await house.key(documents_per_day=2)
    files = [("files", (f"{n}.txt", f"text {n}".encode(), "text/plain")) for n in range(4)]
    async with gateways.worker(house.stack):
        begun = await house.client.post("/documents/import", files=files, headers=headers)
        assert begun.status_code == 202, begun.text
        path = f"/runs/{begun.json()['id']}"
        run = begun.json()
        while run["status"] not in ENDED:
            await asyncio.sleep(0.1)
            run = (await house.client.get(path, headers=headers)).json()
    assert run["output"]["documents"] == {"added": 2}
    assert run["output"]["failed"] == 2
    found = await house.client.get(f"{path}/files", params={"state": "failed"}, headers=headers)
    assert "documents_per_day" in found.json()["items"][0]["error"]


@pytest.mark.parametrize(
    "name", ["requests_per_year", "chat.documents_per_day", "here.requests_per_day", "requests"]
)
async def test_a_limit_that_cannot_be_kept_is_refused(house: House, name: str) -> None:
    with pytest.raises(AIStackError, match="cannot be kept"):
        await house.key(**{name: 1})


async def test_what_no_waiting_admits_is_too_large(house: House) -> None:
    caller = limited(documents_per_minute=2)
    with pytest.raises(TooLarge, match="below the 3"):
        await house.stack.documents.add(caller, [NewDocument(str(n)) for n in range(3)])


@pytest.mark.parametrize(
    ("policy", "expected"), [("local", [200] * 3 + [429] * 3), ("refuse", [429] * 6)]
)
async def test_without_redis_the_stated_policy_holds(
    settings: Settings, house: House, policy: str, expected: list[int]
) -> None:
    headers = await house.key(requests_per_hour=3)
    with servers.redis() as own:
        update = {"redis_url": SecretStr(f"unix://{own.socket}"), "limits_without_redis": policy}
        async with gateways.gateway(settings.model_copy(update=update)) as client:
            own.kill()
            started = time.monotonic()
            seen = [await client.get("/documents", headers=headers) for _ in range(6)]
            assert [one.status_code for one in seen] == expected
            assert time.monotonic() - started < 1.5
            own.start()
            await asyncio.sleep(1.2)
            left = [await client.get("/documents", headers=headers) for _ in range(4)]
    spent_before = 3 if policy == "local" else 0
    assert [one.status_code for one in left].count(200) == 3 - spent_before


async def _survivors(cache: servers.Redis, kept: servers.Redis, flood: int) -> tuple[int, int]:
    """Of 200 counters and 200 sessions those that a flood of answers leaves, and the evicted."""
    counters, talks = open_counters(f"unix://{kept.socket}"), open_conversations(_url(kept))
    answers = open_cache(_url(cache))
    for n in range(200):
        await counters.take(Count(f"flood{n}", 5, 1, 600))
        await talks.create("flood", f"{n}", b"head", 600)
    for n in range(flood):
        await answers.set(f"answer{n}", b"x" * 4096, 600)
        if n % 100 == 0:
            await answers.ping()
    left = sum([(await counters.take(Count(f"flood{n}", 5, 1, 600))).used == 2 for n in range(200)])
    left += sum([await talks.read("flood", f"{n}") is not None for n in range(200)])
    pipeline = Pipeline(Address.read(_url(cache)))
    told = await pipeline.call("INFO", "stats")
    assert isinstance(told, bytes)
    evicted = int(told.partition(b"evicted_keys:")[2].split()[0])
    for opened in (counters, talks, answers, pipeline):
        await opened.aclose()
    return left, evicted


def _url(server: servers.Redis) -> str:
    return f"unix://{server.socket}"


async def test_a_full_cache_evicts_neither_limits_nor_sessions() -> None:
    """Beside each other in one Redis they would all be gone."""
    evicting = ("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru")
    with servers.redis(*evicting) as cache, servers.redis() as kept:
        left, evicted = await _survivors(cache, kept, 6000)
        assert evicted > 3000
        assert left == 400
        assert (await _survivors(cache, cache, 6000))[0] < 100


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_doctor_finds_a_server_that_evicts_limits(settings: Settings, policy: str) -> None:
    with servers.redis("--maxmemory", "8mb", "--maxmemory-policy", policy) as kept:
        update = {"redis_kept_url": SecretStr(_url(kept))}
        found = [*diagnosis.redis_kept(DoctorStack(settings.model_copy(update=update)))]
    assert [policy in finding.what for finding in found] == [True] * (policy != "noeviction")
