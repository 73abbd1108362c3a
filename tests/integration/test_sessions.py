"""Sessions over HTTP: kept, continued, cut to the context, forgotten."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

import gateways
import servers
from ai_stack.models.principals import Principal
from ai_stack.settings import Settings


@pytest.fixture(scope="module")
async def client(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with gateways.gateway(memory_settings) as opened:
        yield opened


async def begin(client: httpx.AsyncClient, **body: object) -> str:
    answered = await client.post("/sessions", json=body)
    assert answered.status_code == 201, answered.text
    return str(answered.json()["id"])


async def say(client: httpx.AsyncClient, id: str, content: str, **more: object) -> dict[str, Any]:
    answered = await client.post(f"/sessions/{id}/messages", json={"content": content, **more})
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


async def test_what_is_said_is_kept_and_sent_again(client: httpx.AsyncClient) -> None:
    id = await begin(client, system="Be brief.", model="memory", metadata={"topic": "tea"})
    first = await say(client, id, "steep it")
    assert first["session"] == {"session_id": id, "left_out": 0, "kept": True}
    assert first["usage"]["prompt_tokens"] == 3 + 3
    second = await say(client, id, "how long")
    assert second["usage"]["prompt_tokens"] == 3 + 3 + 3 + 3
    found = (await client.get(f"/sessions/{id}")).json()
    assert [(m["role"], m["content"]) for m in found["messages"]] == [
        ("user", "steep it"),
        ("assistant", "steep it"),
        ("user", "how long"),
        ("assistant", "how long"),
    ]
    assert (found["system"], found["turns"]) == ("Be brief.", 2)
    assert found["metadata"] == {"topic": "tea"}
    assert found["created_at"] < found["updated_at"]


async def test_a_streamed_answer_is_kept_too(client: httpx.AsyncClient) -> None:
    id = await begin(client)
    body = {"content": "one two three", "stream": True}
    answered = await client.post(f"/sessions/{id}/messages", json=body)
    last = orjson.loads(answered.text.split("\n\n")[-3].removeprefix("data: "))
    assert last["session"]["kept"] is True
    found = (await client.get(f"/sessions/{id}")).json()
    assert found["messages"][1]["content"] == "one two three"


async def test_of_two_turns_at_once_neither_is_lost(client: httpx.AsyncClient) -> None:
    id = await begin(client)
    await asyncio.gather(*(say(client, id, f"turn {n}") for n in range(8)))
    found = (await client.get(f"/sessions/{id}")).json()
    said = [m["content"] for m in found["messages"]]
    assert sorted(said[::2]) == [f"turn {n}" for n in range(8)]
    assert said[::2] == said[1::2]


async def test_the_oldest_turns_are_left_out_and_counted(client: httpx.AsyncClient) -> None:
    id = await begin(client, system="S")
    long = "word " * 600
    for n in range(4):
        told = await say(client, id, f"{n} {long}")
        assert told["session"]["left_out"] == max(0, n - 2)
    told = await say(client, id, "last", max_tokens=1000)
    # 4096 less 1000: two turns of 1204 tokens fit beside the system's and the last message.
    assert told["session"]["left_out"] == 2
    assert told["counted"] == "exact"
    assert told["usage"]["prompt_tokens"] == 2 + 2 * 1204 + 2
    found = (await client.get(f"/sessions/{id}")).json()
    assert found["turns"] == 5


async def test_documents_are_searched_in_a_session(client: httpx.AsyncClient) -> None:
    document = {"id": "tea", "content": "Green tea is steeped for two minutes."}
    assert (await client.post("/documents", json=document)).status_code == 201
    id = await begin(client)
    told = await say(client, id, "how long is green tea steeped?", documents={"limit": 1})
    assert told["citations"][0]["document_id"] == "tea"
    found = (await client.get(f"/sessions/{id}")).json()
    assert found["messages"][0]["content"] == "how long is green tea steeped?"
    assert found["messages"][1]["citations"] == told["citations"]


async def test_sessions_are_listed_and_forgotten(client: httpx.AsyncClient) -> None:
    ids = [await begin(client, metadata={"n": n}) for n in range(5)]
    page = (await client.get("/sessions", params={"limit": 3})).json()
    more = {"limit": 3, "cursor": page["next_cursor"]}
    rest = (await client.get("/sessions", params=more)).json()
    found = [s["id"] for s in page["items"] + rest["items"]]
    assert found[:5] == ids[::-1]
    assert "messages" not in page["items"][0]
    assert (await client.delete(f"/sessions/{ids[0]}")).status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/messages")):
        answered = await client.request(method, f"/sessions/{ids[0]}{path}", json={"content": "x"})
        assert (answered.status_code, answered.json()["code"]) == (404, "not_found")
    assert (await client.get("/sessions/../nobody")).status_code == 404
    wrong = await client.get("/sessions", params={"cursor": "x"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": ""},
        {"content": 1},
        {"content": "x", "messages": []},
        {"content": "x", "prompt": "y"},
    ],
)
async def test_what_is_wrong_is_told(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    id = await begin(client)
    answered = await client.post(f"/sessions/{id}/messages", json=body)
    assert (answered.status_code, answered.json()["code"]) == (422, "invalid_request")


async def test_a_failed_answer_is_not_kept(client: httpx.AsyncClient) -> None:
    id = await begin(client)
    body = {"content": "x", "model": "nobody"}
    assert (await client.post(f"/sessions/{id}/messages", json=body)).status_code == 404
    assert (await client.get(f"/sessions/{id}")).json()["turns"] == 0


async def test_without_redis_only_sessions_fail(memory_settings: Settings) -> None:
    with servers.scratch_folder() as folder:
        url = SecretStr(f"unix://{folder}/redis.sock")
        settings = memory_settings.model_copy(update={"redis_url": url})
        async with gateways.gateway(settings) as client:
            answered = await client.post("/sessions", json={})
            assert answered.status_code == 503
            assert answered.json()["code"] == "unavailable"
            assert "sessions" in answered.json()["detail"]
            assert answered.headers["retry-after"] == "1"
            id = Principal().project_id
            answered = await client.post(f"/sessions/{id}/messages", json={"content": "x"})
            assert answered.status_code == 503
            answered = await client.post("/inference/generate", json={"prompt": "hello"})
            assert answered.json()["text"] == "hello"
