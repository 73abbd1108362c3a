"""Several gateways on one database: whichever answers."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
import httpx2
import pytest
from mcp import Client as McpClient

from ai_stack.engines.memory import MemoryEngine, Turn
from processes import CLOSING_S, Ground, Process, chat, until

pytestmark = pytest.mark.alone

ERAS = ("legacy", "2026-07-28")


@pytest.fixture(scope="module")
async def pair(ground: Ground) -> AsyncIterator[tuple[Process, Process]]:
    """Two gateways and a worker that know nothing of each other but the servers."""
    async with AsyncExitStack() as exits:
        enter = exits.enter_async_context
        first, second = await asyncio.gather(enter(ground.gateway()), enter(ground.gateway()))
        await enter(ground.running("worker"))
        yield first, second


@pytest.fixture(scope="module")
async def both(
    ground: Ground, pair: tuple[Process, Process]
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    async with ground.client(pair[0]) as first, ground.client(pair[1]) as second:
        yield first, second


Both = tuple[httpx.AsyncClient, httpx.AsyncClient]


# Two gateways on one database


async def test_what_one_gateway_stores_the_other_finds_at_once(both: Both) -> None:
    first, second = both
    for turn in range(5):
        word = f"marzipan{turn}"
        added = await first.post("/documents", json={"content": f"{word} is kept in tins."})
        assert added.status_code == 201, added.text
        found = await second.post("/search/semantic", json={"query": word, "mode": "keyword"})
        ids = [one["document"]["id"] for one in found.json()["results"]]
        assert ids == [added.json()["id"]]
        assert (await second.delete(f"/documents/{added.json()['id']}")).status_code < 300
        found = await first.post("/search/semantic", json={"query": word, "mode": "keyword"})
        assert found.json()["results"] == []


async def test_a_request_that_is_repeated_at_another_gateway_is_done_once(both: Both) -> None:
    headers = {"Idempotency-Key": "scale-1"}
    body = {"content": "Quinces are cooked for long.", "id": "quinces"}
    answers = await asyncio.gather(
        *(both[n % 2].post("/documents", json=body, headers=headers) for n in range(8))
    )
    assert {answer.status_code for answer in answers} == {201}, [a.text for a in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = {"content": "Another body."}
    refused = await both[1].post("/documents", json=other, headers=headers)
    assert refused.json()["code"] == "idempotency_mismatch"


async def test_equal_requests_are_answered_alike_and_once_by_each_gateway(
    both: Both, memory: MemoryEngine
) -> None:
    """Work is shared within a process; between processes it is the cache that shares."""
    memory.script += [Turn(delay_s=0.3)] * 2
    before = len(memory.calls)
    body = chat("how many of us are there")
    answers = await asyncio.gather(
        *(both[n % 2].post("/v1/chat/completions", json=body) for n in range(12))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert len(memory.calls) - before <= 2
    for client in both:
        again = await client.post("/v1/chat/completions", json=body)
        assert again.headers["x-cache"] == "HIT"
    assert len(memory.calls) - before <= 2


async def test_a_stream_is_cancelled_where_it_is_read_and_nowhere_else(
    both: Both, memory: MemoryEngine
) -> None:
    """Whatever other gateways do, the engine stops when this one's client leaves."""
    memory.script += [Turn(text="word " * 400, pause_s=0.02)] * 2
    body = chat("tell at length", stream=True, temperature=0.7)
    async with both[1].stream("POST", "/v1/chat/completions", json=body) as kept:
        events = kept.aiter_raw()
        await anext(events)
        working = memory.working
        async with both[0].stream("POST", "/v1/chat/completions", json=body) as left:
            others = left.aiter_raw()
            await anext(others)
            assert memory.working == working + 1
        await until(lambda: memory.working == working)
        assert await anext(events)
    await until(lambda: memory.working == 0)


async def test_a_run_is_followed_and_cancelled_at_another_gateway(
    both: Both, memory: MemoryEngine
) -> None:
    memory.script.append(Turn(delay_s=60))
    started = await both[0].post("/agent/run", json={"goal": "wait", "model": "memory"})
    assert started.status_code == 202, started.text
    id = started.json()["id"]
    await until(lambda: memory.working == 1)
    follower = asyncio.create_task(_events(both[0], id))
    assert (await both[1].delete(f"/runs/{id}")).status_code == 202
    assert "cancelled" in (await asyncio.wait_for(follower, 10))
    assert (await both[0].get(f"/runs/{id}")).json()["status"] == "cancelled"
    await until(lambda: memory.working == 0)


async def _events(client: httpx.AsyncClient, id: str) -> str:
    async with client.stream("GET", f"/runs/{id}/events") as answer:
        return (await answer.aread()).decode()


async def test_a_conversation_goes_on_at_another_gateway(both: Both) -> None:
    id = (await both[0].post("/sessions", json={"model": "memory"})).json()["id"]
    for turn in range(4):
        said = await both[turn % 2].post(f"/sessions/{id}/messages", json={"content": f"n{turn}"})
        assert said.status_code == 200, said.text
    kept = (await both[0].get(f"/sessions/{id}")).json()["messages"]
    assert [m["content"] for m in kept if m["role"] == "user"] == ["n0", "n1", "n2", "n3"]


async def test_a_revoked_key_is_refused_by_every_gateway_at_once(
    ground: Ground, pair: tuple[Process, Process], both: Both
) -> None:
    made = await both[0].post("/keys", json={"name": "short", "scopes": ["read"]})
    assert made.status_code == 201, made.text
    async with AsyncExitStack() as exits:
        holders = [
            await exits.enter_async_context(ground.client(one, made.json()["key"])) for one in pair
        ]
        for holder in holders:
            assert (await holder.get("/documents")).status_code == 200
        id = made.json().get("id") or made.json()["key_id"]
        assert (await both[1].delete(f"/keys/{id}")).status_code < 300
        revoked_at = time.monotonic()
        for holder in holders:
            while (await holder.get("/documents")).status_code == 200:
                assert time.monotonic() - revoked_at < 1
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("era", ERAS)
async def test_an_mcp_client_is_answered_by_any_gateway(
    ground: Ground, pair: tuple[Process, Process], era: str, both: Both
) -> None:
    """Behind a balancer each of its requests may go to another one: there are no sessions."""
    made = await both[0].post("/keys", json={"name": era, "scopes": ["read", "write"]})
    async with _balanced([one.port for one in pair]) as port:
        headers = {"Authorization": f"Bearer {made.json()['key']}"}
        http = httpx2.AsyncClient(headers=headers)
        async with _mcp(f"http://127.0.0.1:{port}/mcp", http, era) as client:
            listed = [tool.name for tool in (await client.list_tools()).tools]
            assert "search" in listed
            for _ in range(4):
                done = await client.call_tool("search", {"query": "quinces"})
                assert not done.is_error, done


@asynccontextmanager
async def _mcp(url: str, http: httpx2.AsyncClient, era: str) -> AsyncIterator[McpClient]:
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

    async with http, McpClient(streamable_http_client(url, http_client=http), mode=era) as client:
        yield client


@asynccontextmanager
async def _balanced(ports: list[int]) -> AsyncIterator[int]:
    """Hands each request to the next gateway: one connection, one request."""
    turns, tasks = itertools.cycle(ports), set[asyncio.Task[None]]()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        with suppress(OSError, asyncio.IncompleteReadError):
            await _passed_on(reader, writer, next(turns))
        writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(CLOSING_S)


async def _passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    inner, outer = await asyncio.open_connection("127.0.0.1", port)
    outer.write(head.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
    forth = asyncio.create_task(_copied(reader, outer))
    try:
        await _copied(inner, writer)
    finally:
        forth.cancel()
        await asyncio.gather(forth, return_exceptions=True)
        outer.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
