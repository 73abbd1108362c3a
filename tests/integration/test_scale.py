"""Several gateways, and several processes of one, on one database: whichever answers."""

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
import psutil
import pytest
from mcp import Client as McpClient

import servers
from ai_stack.engines.memory import MemoryEngine, Turn
from ai_stack.models.seat import Seat
from engines import StandIn
from processes import Ground, Process, Traffic
from stacks import alive

CLOSING_S = 0.1  # for the ends of connections that were closed just now
ERAS = ("legacy", "2026-07-28")
SERIES = "aidb_request_seconds_count"


@pytest.fixture(scope="module")
def redis() -> Iterator[servers.Redis]:
    with servers.redis("--maxmemory", "64mb") as running:
        yield running


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[StandIn]:
    yield StandIn()


@pytest.fixture(scope="module")
async def ground(
    database_url: str,
    redis: servers.Redis,
    engine: StandIn,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Ground]:
    folder = tmp_path_factory.mktemp("scale")
    async with engine.serving() as port:
        yield Ground(
            folder,
            {
                "AI_STACK_DATABASE_URL": database_url,
                "AI_STACK_DATABASE_CONNECTIONS": "6",
                "AI_STACK_REDIS_URL": f"unix://{redis.socket}",
                "AI_STACK_VECTORS_URL": "pgvector:",
                "AI_STACK_EMBEDDER_URL": "memory:",
                "AI_STACK_ENGINES": f"http://127.0.0.1:{port}/v1",
                "AI_STACK_WATCH_IMPORTS": "false",
                "AI_STACK_BACKUP_DAILY": "false",
                "AI_STACK_AUTH": "required",
                "AI_STACK_SLOW_S": "0.0001",
            },
        )
    await asyncio.sleep(CLOSING_S)


@pytest.fixture
def memory(engine: StandIn) -> Iterator[MemoryEngine]:
    """What stands behind the engine, whose script is for one test."""
    engine.engine.script.clear()
    yield engine.engine
    engine.engine.script.clear()


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


async def until(met: Any, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not met():
            await asyncio.sleep(0.01)


def chat(content: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "memory", "temperature": 0, "messages": messages, **more}


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


# Several processes on one port


@pytest.fixture(scope="module")
async def crew(ground: Ground) -> AsyncIterator[Process]:
    async with ground.gateway("--workers", "2") as process:
        await process.until_said("2 processes answer")
        yield process


def processes(crew: Process) -> list[psutil.Process]:
    """The gateway's own processes, which hold its port."""
    return [one for one in crew.children() if "serve" in one.cmdline()]


async def test_all_processes_of_a_port_take_their_share(ground: Ground, crew: Process) -> None:
    async with Traffic(crew.port, connections=24).going():
        await asyncio.sleep(1.0)
    shares = await _counted(ground, crew)
    assert sorted(shares) == ["gateway-1", "gateway-2"]
    assert min(shares.values()) > 0.15 * sum(shares.values()), shares


async def _counted(ground: Ground, crew: Process) -> Counter[str]:
    """Requests by the process that answered them, as one scrape tells."""
    async with ground.client(crew) as client:
        text = (await client.get("/metrics")).text
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith(SERIES) and 'route="/health/live"' in line:
            process = line.partition('process="')[2].partition('"')[0]
            found[process] += int(line.rpartition(" ")[2])
    return found


async def test_a_scrape_tells_the_same_whichever_process_answers(
    ground: Ground, crew: Process
) -> None:
    seen = set()
    for _ in range(12):  # each over a connection of its own
        counted = await _counted(ground, crew)
        seen.add(tuple(sorted(counted.items())))
    assert len(seen) == 1, seen


async def test_what_was_slow_in_any_process_is_reported_by_all(
    ground: Ground, crew: Process
) -> None:
    for _ in range(8):
        async with ground.client(crew) as client:
            assert (await client.get("/documents?limit=1")).status_code == 200
    counts = set()
    for _ in range(6):
        async with ground.client(crew) as client:
            items = (await client.get("/reports/slow")).json()["items"]
        counts.add(sum(one["count"] for one in items if one["operation"] == "GET /documents"))
    assert len(counts) == 1 and min(counts) >= 8, counts


async def test_a_process_that_is_killed_is_started_again(ground: Ground, crew: Process) -> None:
    victim, other = processes(crew)
    victim.kill()
    async with ground.client(crew) as client:
        for _ in range(10):
            assert (await client.get("/health/ready")).status_code == 200
    await crew.until_said("answers again")
    assert "was ended by SIGKILL; it starts again in 0." in crew.said()
    now = [one.pid for one in processes(crew)]
    assert other.pid in now and victim.pid not in now and len(now) == 2


async def test_the_processes_die_with_their_parent(ground: Ground) -> None:
    async with ground.gateway("--workers", "2") as crew:
        await crew.until_said("2 processes answer")
        left = [one.pid for one in processes(crew)]
        crew.popen.kill()
        await until(lambda: not any(map(alive, left)))


async def test_a_port_that_is_taken_is_told(ground: Ground, crew: Process) -> None:
    port = str(crew.port)
    async with ground.running("serve", "--port", port, "--workers", "2") as second:
        assert await second.ended() == 1
        assert f"Port {port} of 127.0.0.1: Address already in use." in second.said()


async def test_a_setting_that_is_wrong_is_told_once(ground: Ground) -> None:
    wrong = {"AI_STACK_DATABASE_URL": "", "AI_STACK_WORKERS": "3"}
    async with ground.running("serve", "--port", "1", **wrong) as crew:
        assert await crew.ended() in (1, 2)
    async with ground.running("serve", **wrong) as crew:
        assert await crew.ended() == 2
        assert crew.said().count("AI_STACK_DATABASE_URL is not set") == 1


async def test_a_rolling_restart_fails_no_request_and_cuts_no_stream(
    ground: Ground, crew: Process, memory: MemoryEngine
) -> None:
    before = {one.pid for one in processes(crew)}
    async with ground.client(crew) as client:
        key = (await client.post("/keys", json={"name": "k", "scopes": ["read", "infer"]})).json()
    headers = {"Authorization": f"Bearer {key['key']}"}
    asked = Traffic(crew.port, 8, "GET", "/documents?limit=2", headers=headers, pause_s=0.02)
    async with asked.going(), _streams(crew.port, headers) as streams:
        await asyncio.sleep(0.5)
        crew.send(signal.SIGHUP)
        await crew.until_said("have been replaced")
        await until(lambda: not before & {one.pid for one in processes(crew)}, 20)
        await asyncio.sleep(0.3)
    after = {one.pid for one in processes(crew)}
    assert asked.failed == {}, asked.seen
    assert asked.seen["200"] > 100
    assert streams["cut"] == 0 and streams["whole"] > 4, streams
    assert len(after) == 2 and not after & before


@asynccontextmanager
async def _streams(port: int, headers: dict[str, str]) -> AsyncIterator[Counter[str]]:
    """Streams of about a second, one after the other on each of four connections."""
    seen: Counter[str] = Counter()
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_streaming(port, headers, n, stop, seen)) for n in range(4)]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _streaming(
    port: int, headers: dict[str, str], lane: int, stop: asyncio.Event, seen: Counter[str]
) -> None:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30
    ) as client:
        turn = 0
        while not stop.is_set():
            turn += 1
            body = chat(f"{lane} {turn} " + "word " * 60, stream=True, temperature=0.9)
            try:
                answer = await client.post("/v1/chat/completions", json=body)
                whole = answer.text.rstrip().endswith("data: [DONE]")
                seen["whole" if whole and answer.status_code == 200 else "cut"] += 1
            except httpx.HTTPError:
                seen["cut"] += 1


async def test_new_processes_that_do_not_start_leave_the_old_ones(
    ground: Ground, tmp_path: Path
) -> None:
    file = tmp_path / "config/.env"
    file.parent.mkdir()
    options = {"AI_STACK_CONFIG_DIR": str(file.parent)}
    async with ground.gateway("--workers", "2", **options) as crew:
        await crew.until_said("2 processes answer")
        before = {one.pid for one in processes(crew)}
        file.write_text("AI_STACK_LOG_LEVEL=never\n")
        crew.send(signal.SIGHUP)
        await crew.until_said("stay as they are")
        assert {one.pid for one in processes(crew)} == before
        assert "AI_STACK_LOG_LEVEL" in crew.said()
        file.write_text("AI_STACK_LOG_LEVEL=info\n")
        crew.send(signal.SIGHUP)
        await crew.until_said("have been replaced")


async def test_all_processes_finish_what_they_have_begun(
    ground: Ground, memory: MemoryEngine
) -> None:
    async with ground.gateway("--workers", "2") as crew, ground.client(crew) as client:
        await crew.until_said("2 processes answer")
        memory.script += [Turn(text="word " * 50, pause_s=0.02)] * 4
        bodies = [chat(f"a stream {n}", stream=True, temperature=0.7) for n in range(4)]
        answers = [
            asyncio.create_task(client.post("/v1/chat/completions", json=body)) for body in bodies
        ]
        await until(lambda: memory.working == 4)
        crew.send(signal.SIGTERM)
        for answer in await asyncio.gather(*answers):
            assert answer.text.rstrip().endswith("data: [DONE]")
        assert await crew.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_one_that_is_to_stop_says_so_before_it_does(ground: Ground, workers: str) -> None:
    """A balancer has AI_STACK_DRAIN_S to notice; until then everything is answered."""
    options = {"AI_STACK_DRAIN_S": "1.5", "AI_STACK_WORKERS": workers}
    async with ground.gateway(**options) as gateway, ground.client(gateway) as client:
        if workers != "1":
            await gateway.until_said("2 processes answer")
        async with Traffic(gateway.port, connections=6).going() as traffic:
            await asyncio.sleep(0.3)
            gateway.send(signal.SIGTERM)
            told_at = time.monotonic()
            while (ready := await client.get("/health/ready")).status_code == 200:
                assert time.monotonic() - told_at < 1
                await asyncio.sleep(0.02)
            assert ready.status_code == 503
            assert ready.headers["connection"] == "close"
            while time.monotonic() - told_at < 1.2:
                assert (await client.get("/documents?limit=1")).status_code == 200
        assert traffic.failed == {}, traffic.seen
        await gateway.ended()
        assert 1.4 < time.monotonic() - told_at < 6


async def test_there_are_no_files_left(ground: Ground) -> None:
    async with ground.gateway("--workers", "2") as crew:
        await crew.until_said("2 processes answer")
        seat = Seat.read(processes(crew)[0].cmdline()[-1])
        assert sorted(one.name for one in seat.folder.iterdir()) == ["1.sock", "2.sock"]
        assert seat.folder.stat().st_mode & 0o077 == 0
    assert not seat.folder.exists()
