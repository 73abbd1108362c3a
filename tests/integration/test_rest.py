"""The REST face over a real socket: its shapes, its refusals, its conditions."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
import uvicorn

from ai_stack.connections import HEAD_BYTES, Connection
from ai_stack.server import create_app
from ai_stack.settings import Settings


@pytest.fixture(scope="module")
async def client(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(memory_settings)
    config = uvicorn.Config(app, port=0, log_level="warning", http=Connection)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as opened:
        yield opened
    server.should_exit = True
    await task


async def test_health_names_every_part(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "healthy"
    assert list(body["services"]) == [
        "postgres",
        "redis",
        "vectors",
        "embedder",
        "llama-cpp",
        "jobs",
    ]
    assert body["services"]["llama-cpp"] == {**body["services"]["llama-cpp"], "detail": "memory"}
    for path in ("/health/live", "/health/ready"):
        assert (await client.get(path)).status_code == 200


async def test_a_document_goes_round(client: httpx.AsyncClient) -> None:
    new = {"content": "# Tea\n\nSteep green tea at 80 °C.", "metadata": {"kind": "drink"}}
    made = await client.post("/documents", json={**new, "id": "notes/tea.md"})
    assert made.status_code == 201
    assert set(made.json()) == {
        "id",
        "content",
        "metadata",
        "created_at",
        "updated_at",
        "state",
    }
    found = (await client.post("/search/semantic", json={"query": "steep green tea"})).json()
    passage = found["results"][0]["passages"][0]
    content = found["results"][0]["document"]["content"]
    assert content[passage["start"] : passage["end"]] == passage["text"]
    got = await client.get("/documents/notes/tea.md")
    tag = got.headers["etag"]
    changed = await client.patch(
        "/documents/notes/tea.md", json={"metadata": {"cups": 2}}, headers={"If-Match": tag}
    )
    assert changed.json()["metadata"] == {"kind": "drink", "cups": 2}
    stale = await client.put(
        "/documents/notes/tea.md", json={"content": "x"}, headers={"If-Match": tag}
    )
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert (await client.delete("/documents/notes/tea.md")).status_code == 204
    assert (await client.get("/documents/notes/tea.md")).status_code == 404


async def test_a_batch_answers_items(client: httpx.AsyncClient) -> None:
    body = {"documents": [{"content": f"Batch {n}."} for n in range(3)]}
    made = await client.post("/documents", json=body)
    assert made.status_code == 201
    assert [d["content"] for d in made.json()["items"]] == [f"Batch {n}." for n in range(3)]


async def test_without_waiting_it_is_accepted(client: httpx.AsyncClient) -> None:
    made = await client.post("/documents?wait=false", json={"content": "Later."})
    assert (made.status_code, made.json()["state"]) == (202, "pending")


async def test_a_key_makes_repeating_safe(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = await client.post("/documents", json={"content": "Once."}, headers=headers)
    again = await client.post("/documents", json={"content": "Once."}, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    other = await client.post("/documents", json={"content": "Twice."}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_an_empty_key_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/documents", json={"content": "No key."}, headers={"Idempotency-Key": ""}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_lists_filter_search_and_page(client: httpx.AsyncClient) -> None:
    body = {"documents": [{"content": f"Listed {n}.", "metadata": {"n": n}} for n in range(5)]}
    await client.post("/documents", json=body)
    wanted = json.dumps({"n": {"gte": 1, "lt": 4}})
    first = (await client.get("/documents", params={"filter": wanted, "limit": 2})).json()
    rest = await client.get(
        "/documents", params={"filter": wanted, "limit": 2, "cursor": first["next_cursor"]}
    )
    items = first["items"] + rest.json()["items"]
    assert [d["metadata"]["n"] for d in items] == [1, 2, 3]
    assert rest.json()["next_cursor"] is None
    words = (await client.get("/documents", params={"search": "listed"})).json()["items"]
    assert len(words) == 5


def nested(levels: int) -> bytes:
    """A document whose metadata nests so deep."""
    return b'{"content": "x", "metadata": ' + b'{"a":' * levels + b"1" + b"}" * (levels + 1)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/documents/none", None, 404, "not_found"),
        ("GET", "/nowhere", None, 404, "not_found"),
        ("PUT", "/documents", None, 405, "method_not_allowed"),
        ("POST", "/documents", b"{", 422, "invalid_request"),
        ("POST", "/documents", b"[" * 100_000, 422, "invalid_request"),
        ("POST", "/documents", b'{"content": "x", "extra": 1}', 422, "invalid_request"),
        ("POST", "/documents", b'{"content": ""}', 422, "invalid_request"),
        ("POST", "/documents", b'{"content": "a\\u0000"}', 422, "invalid_request"),
        ("POST", "/documents", b'{"content": "x", "vector": [NaN]}', 422, "invalid_request"),
        ("POST", "/documents", nested(70), 422, "invalid_request"),
        ("POST", "/documents", nested(252), 422, "invalid_request"),
        ("POST", "/documents", nested(900), 422, "invalid_request"),
        ("PATCH", "/documents/x", nested(900), 422, "invalid_request"),
        ("GET", "/runs?kind=%00", None, 422, "invalid_request"),
        ("POST", "/embeddings/models/migrate", b'{"model": "\\u0000"}', 422, "invalid_request"),
        ("GET", "/documents?filter=no", None, 422, "invalid_filter"),
        ("GET", "/documents?cursor=no", None, 422, "invalid_cursor"),
        ("GET", "/documents?limit=0", None, 422, "invalid_request"),
        ("GET", "/documents/%00", None, 422, "invalid_request"),
        ("POST", "/search/semantic", b"{}", 422, "invalid_request"),
        ("POST", "/search/semantic", b'{"query": " "}', 422, "invalid_request"),
        ("POST", "/search/semantic", b'{"vector": [1, 2]}', 422, "invalid_request"),
        ("POST", "/search/semantic", b'{"query": "a", "filter": {"a": {}}}', 422, "invalid_filter"),
        ("POST", "/search/semantic", b'{"query": "a", "rerank": true}', 422, "invalid_request"),
    ],
)
async def test_every_refusal_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.request(method, path, content=body, headers=headers)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["status"]) == (status, code, status)
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text


async def test_a_giant_body_is_cut_off_as_it_comes(
    client: httpx.AsyncClient, memory_settings: Settings
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(memory_settings.request_max_bytes // (1 << 20) + 8):
            yield b"x" * (1 << 20)

    json_type = {"Content-Type": "application/json"}
    for method, path in (("POST", "/documents"), ("PUT", "/documents/import")):
        answer = await client.request(method, path, content=endless(), headers=json_type)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("head", "endless"),
    [
        (b"GET /", b"x"),
        (b"GET / HTTP/1.1\r\nX: ", b"x"),
        (b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
    ],
    ids=["request line", "header", "headers", "trailers", "chunk's extension"],
)
async def test_an_endless_head_is_cut_off(
    client: httpx.AsyncClient, head: bytes, endless: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(head)
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            for _ in range(100):
                writer.write(endless * (HEAD_BYTES // len(endless)))
                await writer.drain()
            await reader.read()
        assert writer.is_closing() or reader.at_eof()
    writer.close()


async def test_a_long_head_and_a_body_in_pieces_pass(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"content": "'
        for _ in range(200):
            yield b"word " * 1000
        yield b'"}'

    headers = {"X-Long": "x" * 40_000, "Content-Type": "application/json"}
    for _ in range(3):
        made = await client.post("/documents?wait=false", content=pieces(), headers=headers)
        assert made.status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8091"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "127.0.0.1.evil.example"},
        [("Origin", "http://127.0.0.1"), ("Origin", "http://evil.example")],
    ],
)
async def test_other_names_and_origins_are_refused(
    client: httpx.AsyncClient, headers: dict[str, str] | list[tuple[str, str]]
) -> None:
    refused = await client.get("/health", headers=headers)
    assert refused.status_code == 421
    assert refused.json()["request_id"] == refused.headers["x-request-id"]


async def test_a_request_has_one_host(client: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"421"
    writer.close()


async def test_the_description_lists_the_routes(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/health", "/documents", "/search/semantic"} <= set(paths)


async def test_a_wrong_method_is_told_in_the_form_of_its_path(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"
    answer = await client.put("/documents")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
