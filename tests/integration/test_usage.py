"""Models, vectors, tokens and the log's sums over HTTP; what is old is forgotten."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

import gateways
from ai_stack.database import Database, inferences
from ai_stack.models.identifiers import uuid7_hex
from ai_stack.models.inference import InferenceRecord, Usage
from ai_stack.models.principals import DEFAULT_PROJECT, Principal
from ai_stack.services.inference.stored import new_id
from ai_stack.settings import Settings
from ai_stack.stack import Stack

HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPAN = {"since": "2026-02-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"}


@pytest.fixture(scope="module")
async def client(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with gateways.gateway(memory_settings) as opened:
        yield opened


def record(at: datetime, model: str = "a", **more: object) -> InferenceRecord:
    made = InferenceRecord(uuid7_hex(), at.timestamp(), DEFAULT_PROJECT, "me", "chat", model)
    made.usage, made.total_ms = Usage(10, 5), 100.0
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.fixture(scope="module")
async def logged(database: Database) -> None:
    day = timedelta(days=1)
    await inferences.write(
        database,
        [
            record(HOUR, cost=0.5, detail={"tool_calls": {"repaired": 2, "failed": 1}}),
            record(HOUR + timedelta(minutes=59), total_ms=300.0, cached=True),
            record(HOUR + timedelta(hours=1), "b"),
            record(HOUR + day, "b", usage=None, outcome="failed"),
            record(HOUR, "a", project_id=UUID(int=9)),
        ],
    )


async def test_rows_that_are_there_already_stay_and_the_others_come(database: Database) -> None:
    strange = record(
        HOUR, "a\tb\\N\n\r", principal="\\.", engine="e\\t", cost=7e-6, detail={"a": "\\\n"}
    )
    first = [strange, *(record(HOUR + timedelta(microseconds=n)) for n in range(7))]
    await inferences.write(database, first)
    await inferences.write(database, [*first, last := record(HOUR, "last", first_token_ms=1.5)])
    await inferences.write(database, [last])
    sql = (
        "SELECT model, principal, engine, cost::float, detail, prompt_tokens, first_token_ms,"
        " ts FROM tenant.inference_log WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id"
    )
    asked: dict[str, object] = {"ids": [r.id for r in (*first, last)]}
    rows = await database.read(DEFAULT_PROJECT, sql, asked)
    said = {"a": "\\\n", "operation": "chat"}
    assert rows[0] == ("a\tb\\N\n\r", "\\.", "e\\t", 7e-6, said, 10, None, HOUR)
    assert rows[-1] == ("last", "me", None, 0, {"operation": "chat"}, 10, 1.5, HOUR)
    assert [row[-1] for row in rows[1:-1]] == [HOUR + timedelta(microseconds=n) for n in range(7)]
    async with database.transaction(DEFAULT_PROJECT) as tx:
        await tx.execute("DELETE FROM inference_log WHERE id = ANY(%(ids)s::uuid[])", asked)


async def report(client: httpx.AsyncClient, **params: object) -> dict:
    answered = await client.get("/inference/usage", params={**SPAN, **params})
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


async def test_use_is_summed_by_hour_day_and_model(client: httpx.AsyncClient, logged: None) -> None:
    hours = (await report(client))["items"]
    assert [(u["start"][:13], u["model"], u["requests"]) for u in hours] == [
        ("2026-03-02T12", "b", 1),
        ("2026-03-01T13", "b", 1),
        ("2026-03-01T12", "a", 2),
    ]
    assert hours[2] == {
        "start": "2026-03-01T12:00:00+00:00",
        "model": "a",
        "requests": 2,
        "cached": 1,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "cost": 0.5,
        "mean_ms": 200.0,
        "max_ms": 300.0,
        "repaired_calls": 2,
        "failed_calls": 1,
    }
    days = (await report(client, group="day"))["items"]
    assert [(u["start"][:10], u["model"], u["requests"]) for u in days] == [
        ("2026-03-02", "b", 1),
        ("2026-03-01", "a", 2),
        ("2026-03-01", "b", 1),
    ]
    models = await report(client, group="model")
    assert [(u["model"], u["requests"]) for u in models["items"]] == [("a", 2), ("b", 2)]
    assert "start" not in models["items"][0]
    totals = models["totals"]
    assert (totals["requests"], totals["prompt_tokens"], totals["max_ms"]) == (4, 30, 300.0)
    assert totals["mean_ms"] == 150.0
    assert [u["model"] for u in (await report(client, model="b"))["items"]] == ["b", "b"]


@pytest.mark.parametrize("group", ["hour", "day", "model"])
async def test_pages_hold_each_use_once(
    client: httpx.AsyncClient, logged: None, group: str
) -> None:
    whole = await report(client, group=group)
    found, cursor = [], None
    for _ in range(len(whole["items"])):
        more = {} if cursor is None else {"cursor": cursor}
        page = await report(client, group=group, limit=1, **more)
        assert page["totals"] == whole["totals"]
        found += page["items"]
        cursor = page["next_cursor"]
    assert (found, cursor) == (whole["items"], None)


@pytest.mark.parametrize(
    "params",
    [
        {"since": "2026-05-01T00:00:00Z"},
        {"since": "2020-01-01T00:00:00Z"},
        {"since": "yesterday"},
        {"group": "year"},
        {"cursor": "***"},
        {"limit": 0},
    ],
)
async def test_wrong_questions_are_refused(
    client: httpx.AsyncClient, params: dict[str, object]
) -> None:
    answered = await client.get("/inference/usage", params={**SPAN, **params})
    assert answered.status_code == 422


async def test_what_is_generated_is_counted(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await client.post("/inference/generate", json={"prompt": "one two", "temperature": 0})
    totals = await used(client, "memory", 2)
    assert (totals["cached"], totals["prompt_tokens"]) == (1, 6)


async def test_the_stack_s_own_vectors_are_counted_too(client: httpx.AsyncClient) -> None:
    embedded = (await client.post("/v1/embeddings", json={"input": "one two"})).json()
    refused = await client.post("/v1/embeddings", json={"input": "one " * 999})
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert refused.json()["error"]["param"] == "input"
    totals = await used(client, embedded["model"], 2)
    assert totals["prompt_tokens"] == embedded["usage"]["prompt_tokens"]


async def used(client: httpx.AsyncClient, model: str, requests: int) -> dict:
    """What was used of a model, once so many requests are in the log."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        told = await client.get("/inference/usage", params={"model": model})
        totals = dict(told.json()["totals"])
        if totals["requests"] == requests:
            break
        await asyncio.sleep(0.1)
    assert totals["requests"] == requests
    return totals


async def test_models_are_listed_with_what_they_do(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/inference/models")).json()
    assert listed["next_cursor"] is None
    first, *rest = listed["items"]
    assert first == {
        "id": "memory",
        "context_length": 4096,
        "slots": 4,
        "operations": ["chat", "completion", "embedding", "rerank"],
        "loaded": True,
        "engines": ["memory:"],
    }
    assert [one["engines"] for one in rest] == [["embedder"]]


async def test_texts_are_embedded(client: httpx.AsyncClient) -> None:
    given = await client.post("/inference/embed", json={"texts": ["one", "two"]})
    found = given.json()
    assert len(found["embeddings"]) == 2
    assert {len(row) for row in found["embeddings"]} == {found["dimensions"]}
    assert found["usage"]["prompt_tokens"] > 0
    one = (await client.post("/inference/embed", json={"input": "one"})).json()
    assert one["embeddings"] == found["embeddings"][:1]
    assert one["model"] == found["model"]
    short = {"input": "one", "model": "memory", "dimensions": 4}
    assert (await client.post("/inference/embed", json=short)).json()["dimensions"] == 4
    for wrong in ({}, {"input": "a", "texts": ["b"]}, {"input": "a", "more": 1}):
        assert (await client.post("/inference/embed", json=wrong)).status_code == 422


async def test_texts_and_messages_are_tokenized(client: httpx.AsyncClient) -> None:
    told = (await client.post("/inference/tokenize", json={"text": "one two"})).json()
    assert (told["model"], told["count"], len(told["tokens"])) == ("memory", 2, 2)
    messages = [{"role": "user", "content": "one two"}]
    told = (await client.post("/inference/tokenize", json={"messages": messages})).json()
    assert told["count"] == 3


async def test_old_inferences_and_responses_are_forgotten(stack: Stack) -> None:
    database, now = stack.database, datetime.now(UTC)
    old = [record(now - timedelta(days=days), "old") for days in (89, 91, 200)]
    await inferences.write(database, old)
    kept, gone = new_id(), new_id()
    for id in (kept, gone):
        await stack.responses.stored.add(Principal(), [], {"id": id, "output": []})
    aged = "UPDATE responses SET created_at = now() - interval '31 days' WHERE id = %(id)s"
    async with database.transaction(DEFAULT_PROJECT) as tx:
        await tx.execute(aged, {"id": gone})
    assert await stack.retention.sweep() >= 3
    hours = await inferences.hours(database, DEFAULT_PROJECT, now - timedelta(days=300), now, "old")
    assert [row.requests for row in hours] == [1]
    stored = [await _is_stored(stack, id) for id in (kept, gone)]
    assert stored == [True, False]


async def _is_stored(stack: Stack, id: str) -> bool:
    rows = await stack.database.read(
        DEFAULT_PROJECT, "SELECT 1 FROM responses WHERE id = %(id)s", {"id": id}
    )
    return bool(rows)


async def test_a_ranking_has_its_texts_where_they_are_asked_for(client: httpx.AsyncClient) -> None:
    asked = {"model": "memory", "query": "b", "documents": ["a", "b"]}
    plain = (await client.post("/v1/rerank", json=asked)).json()["results"]
    told = await client.post("/v1/rerank", json={**asked, "return_documents": True})
    assert not any("document" in result for result in plain)
    for bare, result in zip(plain, told.json()["results"], strict=True):
        assert result == {**bare, "document": {"text": asked["documents"][bare["index"]]}}


async def test_tokens_of_a_message_are_counted_and_refused_in_anthropic_s_form(
    client: httpx.AsyncClient,
) -> None:
    asked = {"model": "memory", "messages": [{"role": "user", "content": "one two"}]}
    counted = await client.post("/v1/messages/count_tokens", json=asked)
    assert counted.json() == {"input_tokens": 3}
    for wrong, kind in (({"model": "x"}, "not_found_error"), ({"a": 1}, "invalid_request_error")):
        refused = await client.post("/v1/messages/count_tokens", json={**asked, **wrong})
        assert refused.json()["type"] == "error"
        assert refused.json()["error"]["type"] == kind


async def test_prompts_may_be_lists_of_tokens(client: httpx.AsyncClient) -> None:
    asked = {"model": "memory", "prompt": [[1, 2], [3]], "max_tokens": 2}
    assert (await client.post("/v1/completions", json=asked)).status_code == 200
    asked["prompt"] = [[1, "2"]]
    assert (await client.post("/v1/completions", json=asked)).status_code == 400
