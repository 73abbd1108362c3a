"""Generation over HTTP: a real gateway and PostgreSQL, models and vectors in memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

import gateways
from ai_stack.settings import Settings

CONTENT = "Old copies are kept for thirty days. Logs are kept for a year."


@pytest.fixture(scope="module")
async def client(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with gateways.gateway(memory_settings) as opened:
        document = {"id": "policy", "content": CONTENT, "metadata": {"team": "storage"}}
        assert (await opened.post("/documents", json=document)).status_code == 201
        yield opened


async def generate(client: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    answered = await client.post("/inference/generate", json=body)
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


async def events(client: httpx.AsyncClient, path: str, **body: object) -> list[Any]:
    answered = await client.post(path, json={**body, "stream": True})
    assert answered.headers["content-type"].startswith("text/event-stream"), answered.text
    lines = [e.removeprefix("data: ") for e in answered.text.split("\n\n") if e]
    return [line if line == "[DONE]" else orjson.loads(line) for line in lines]


async def test_a_prompt_is_answered(client: httpx.AsyncClient) -> None:
    made = await generate(client, prompt="hello there", max_tokens=20)
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert made == {
        "text": "hello there",
        "model": "memory",
        "usage": usage,
        "cached": False,
        "finish_reason": "stop",
    }


async def test_the_cache_is_told_and_can_be_left_out(client: httpx.AsyncClient) -> None:
    body = {"prompt": "the same again", "temperature": 0}
    said = [
        (await generate(client, **body, **more))["cached"] for more in ({}, {}, {"cache": False})
    ]
    assert said == [False, True, False]
    once = [await generate(client, prompt="warm", cache=True) for _ in range(2)]
    assert [made["cached"] for made in once] == [False, True]
    answered = await client.post("/inference/generate", json=body)
    assert answered.headers["x-cache"] == "HIT"


async def test_an_answer_from_documents_cites_them(client: httpx.AsyncClient) -> None:
    # The model repeats the prompt, with the number that stands in the rules.
    body = {"prompt": "how long are old copies kept?", "documents": {"filter": {"team": "storage"}}}
    made = await generate(client, **body)
    (citation,) = made["citations"]
    assert citation["number"] == 1
    assert citation["document_id"] == "policy"
    assert CONTENT[citation["start"] : citation["end"]] == citation["text"]
    assert made["passages"] == {"found": 1, "shown": 1}
    assert made["counted"] == "exact"
    none = await generate(client, **{**body, "documents": {"filter": {"team": "nobody"}}})
    assert (none["citations"], none["passages"]) == ([], {"found": 0, "shown": 0})


async def test_a_stream_ends_with_usage_and_citations(client: httpx.AsyncClient) -> None:
    body = {"prompt": "copies?", "documents": True, "temperature": 0}
    told = await events(client, "/inference/generate", **body)
    whole = await generate(client, **body)
    *deltas, last, done = told
    assert done == "[DONE]"
    assert "".join(d["delta"] for d in deltas) == whole["text"]
    assert last == {name: value for name, value in whole.items() if name != "text"}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "messages": []}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "god", "content": "x"}]}, "messages"),
        ({"prompt": "x", "tools": []}, "tools"),
        ({"prompt": "x", "temperature": 9}, "temperature"),
        ({"prompt": "x", "whatever": 1}, "whatever"),
        ({"prompt": "x", "stream": 1}, "stream"),
        ({"prompt": "x", "cache": "no"}, "cache"),
        ({"prompt": "x", "documents": "all"}, "documents"),
        ({"prompt": "x", "documents": {"limit": 0}}, "documents.limit"),
        ({"prompt": "x", "documents": {"more": 1}}, "documents.more"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_wrong_is_a_problem_that_names_it(
    client: httpx.AsyncClient, body: dict[str, Any], place: str, streamed: bool
) -> None:
    asked = {"stream": True, **body} if streamed else body
    answered = await client.post("/inference/generate", json=asked)
    assert answered.status_code == 422, answered.text
    assert answered.headers["content-type"] == "application/problem+json"
    problem = answered.json()
    assert problem["code"] == "invalid_request"
    assert place in problem["errors"]
    assert problem["request_id"] == answered.headers["x-request-id"]


async def test_a_long_question_is_searched_by_its_end(client: httpx.AsyncClient) -> None:
    prompt = "word " * 1500 + "how long are old copies kept?"
    made = await generate(client, prompt=prompt, documents={"mode": "semantic"})
    assert made["passages"] == {"found": 1, "shown": 1}


async def test_other_failures_are_problems_too(client: httpx.AsyncClient) -> None:
    body = {"prompt": "x", "model": "nobody"}
    unknown = await client.post("/inference/generate", json=body)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")
    long = {"prompt": "word " * 5000, "documents": True}
    answered = await client.post("/inference/generate", json=long)
    assert answered.status_code == 422, answered.text
    assert answered.json()["code"] == "context_length_exceeded"
    assert "tokens too long" in answered.json()["detail"]
    wrong = {"prompt": "x", "documents": {"filter": {"year": {"about": 1}}}}
    answered = await client.post("/inference/generate", json=wrong)
    assert (answered.status_code, answered.json()["code"]) == (422, "invalid_filter")
    for raw in (b"{", b"[]"):
        answered = await client.post("/inference/generate", content=raw)
        assert (answered.status_code, answered.json()["code"]) == (422, "invalid_request")


async def test_several_models_each_have_a_result(client: httpx.AsyncClient) -> None:
    body = {"models": ["memory", "nobody"], "prompt": "hello", "documents": True}
    answered = await client.post("/inference/parallel", json=body)
    first, second = answered.json()["results"]
    assert first["text"].endswith("hello")
    assert second["model"] == "nobody"
    assert second["error"]["code"] == "model_not_found"
    for wrong in ({"stream": True}, {"model": "memory"}, {"models": "memory"}, {"models": []}):
        answered = await client.post("/inference/parallel", json={**body, **wrong})
        assert answered.status_code == 422, wrong


async def test_a_client_that_leaves_is_no_failure(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await client.post(
            "/inference/generate", json={"prompt": "x " * 300_000, "documents": True}, timeout=0.001
        )
    await asyncio.sleep(0.05)
    assert (await client.get("/health/live")).status_code == 200
