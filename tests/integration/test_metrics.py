"""/metrics on real servers: what it tells, to whom, and that it answers whatever is down."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

import servers
from ai_stack.cli.credentials import Credentials
from ai_stack.database.migrating import migrate
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal
from ai_stack.services.telling import Telling
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack
from gateways import gateway

CHAT = {"model": "memory", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
PROJECT = Principal().project_id


@pytest.fixture(scope="module")
async def client(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(memory_settings) as opened:
        yield opened


async def read(client: httpx.AsyncClient, key: str = "") -> dict[str, dict[str, float]]:
    """Every sample: name -> labels as they are written, sorted -> value."""
    answer = await client.get("/metrics", headers={"x-api-key": key} if key else {})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{n}={v}" for n, v in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


async def test_what_happens_is_counted(client: httpx.AsyncClient) -> None:
    made = await client.post("/documents", json={"id": "a", "content": "counted words"})
    assert made.status_code == 201
    for _ in range(2):
        await client.post("/search/semantic", json={"query": "words"})
    for _ in range(3):
        await client.post("/v1/chat/completions", json=CHAT)
    await client.post("/v1/chat/completions", json={**CHAT, "stream": True, "temperature": 1})
    await client.get("/documents/a")
    assert (await client.get("/documents/none")).status_code == 404
    await asyncio.sleep(0.3)  # for the log of inferences
    found = await read(client)
    requests = found["aidb_request_seconds_count"]
    route = "process=gateway,route=/documents/{id:path}"
    assert requests[f"method=GET,{route},status=2xx"] == 1
    assert requests[f"method=GET,{route},status=4xx"] == 1
    assert requests["method=POST,process=gateway,route=/v1/chat/completions,status=2xx"] == 4
    assert requests["method=POST,process=gateway,route=/search/semantic,status=2xx"] == 2
    asked = found["aidb_inference_requests_total"]
    about = "model=memory,operation=chat,outcome=ok,process=gateway"
    assert asked[f"cache=miss,{about}"] == 2
    assert asked[f"cache=hit,{about}"] == 2
    assert sum(found["aidb_inference_first_token_seconds_count"].values()) == 1
    assert found["aidb_inference_tokens_total"]["kind=completion,model=memory,process=gateway"] > 0
    searches = found["aidb_search_seconds_count"]
    assert searches["mode=hybrid,process=gateway,result=found"] == 1
    assert searches["mode=hybrid,process=gateway,result=cached"] == 1
    assert found["aidb_embedded_texts_total"]["kind=passage,process=gateway"] == 1
    assert found["aidb_indexed_documents_total"]["process=gateway"] == 1
    assert found["aidb_authentications_total"]["process=gateway,verdict=accepted"] > 8
    assert found["aidb_documents"][""] == found["aidb_chunks"][""] == 1
    assert found["aidb_index_vectors"][""] == found["aidb_index_points"][""] == 1
    assert found["aidb_index_divergence"][""] == 0
    assert found["aidb_changes"] == {"state=waiting": 0, "state=failed": 0}
    assert set(found["aidb_up"].values()) == {1}
    assert {"part=postgres", "part=redis", "part=vectors"} <= set(found["aidb_up"])
    assert found["aidb_postgres_size_bytes"][""] > 1 << 20
    assert found["aidb_postgres_connections"][""] >= 1
    assert found["aidb_engine_up"] == {"engine=memory:,process=gateway": 1}
    assert found["aidb_process_resident_bytes"]["process=gateway"] > 1 << 24
    assert found["aidb_event_loop_lag_seconds_count"]["process=gateway"] > 0


async def test_a_client_that_leaves_is_counted_as_such(client: httpx.AsyncClient) -> None:
    with suppress(httpx.ReadTimeout):
        await client.get("/runs/none/events", timeout=0.0001)
    slow = {**CHAT, "stream": True, "temperature": 1, "max_tokens": 5000}
    async with client.stream("POST", "/v1/chat/completions", json=slow) as answer:
        await anext(answer.aiter_bytes())
    left: dict[str, float] = {}
    for _ in range(50):
        counts = (await read(client))["aidb_request_seconds_count"]
        left = {labels: n for labels, n in counts.items() if "status=left" in labels}
        if left:
            break
        await asyncio.sleep(0.05)
    assert left or answer.is_stream_consumed


async def test_a_scrape_is_brief_and_many_at_once_cost_no_more(client: httpx.AsyncClient) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert time.monotonic() - began < 3


async def test_a_method_of_ones_own_is_counted_as_other(client: httpx.AsyncClient) -> None:
    for n in range(30):
        await client.get(f"/made-up/{n}?secret=yes")
    counts = (await read(client))["aidb_request_seconds_count"]
    assert counts["method=GET,process=gateway,route=other,status=4xx"] >= 30
    assert not [labels for labels in counts if "made-up" in labels or "secret" in labels]


async def test_tools_of_mcp_are_counted(client: httpx.AsyncClient) -> None:
    about = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    headers = {"accept": "application/json, text/event-stream"}
    for name in ("search", "no_such_tool"):
        body = {**about, "params": {"name": name, "arguments": {"query": "words"}}}
        await client.post("/mcp", json=body, headers=headers)
    calls = (await read(client))["aidb_mcp_call_seconds_count"]
    assert calls == {"outcome=ok,process=gateway,tool=search": 1}


async def test_what_is_slow_is_reported(memory_settings: Settings) -> None:
    settings = memory_settings.model_copy(update={"slow_s": 1e-6})
    async with gateway(settings) as client:
        await client.get("/documents")
        report = (await client.get("/reports/slow", params={"limit": 1000})).json()
        counted = (await read(client))["aidb_slow_operations_total"]
    kinds = {item["kind"] for item in report["items"]}
    assert kinds == {"request", "statement"}
    worst = [item["worst_s"] for item in report["items"]]
    assert worst == sorted(worst, reverse=True)
    assert "GET /documents" in {item["operation"] for item in report["items"]}
    named = [item for item in report["items"] if item["operation"] == "GET /documents"]
    assert len(named[0]["request_id"]) == 32
    assert report["threshold_s"] == 1e-6
    assert all(count > 0 for count in counted.values())


async def test_use_is_reported_by_project_principal_and_model(client: httpx.AsyncClient) -> None:
    await client.post("/v1/chat/completions", json={**CHAT, "temperature": 1})
    await asyncio.sleep(0.3)
    by = {}
    for group in ("project", "principal", "model"):
        answer = (await client.get("/reports/usage", params={"group": group})).json()
        assert answer["totals"]["requests"] == sum(i["requests"] for i in answer["items"]) > 0
        by[group] = answer["items"]
    assert by["project"][0]["project"] == "default"
    assert by["project"][0]["project_id"] == str(PROJECT)
    assert by["principal"][0]["principal"] == "local"
    assert {item["model"] for item in by["model"]} == {"memory"}
    wrong = await client.get("/reports/usage", params={"group": "colour"})
    assert wrong.status_code == 422
    long = {"since": "2001-01-01T00:00:00Z"}
    assert (await client.get("/reports/usage", params=long)).status_code == 422


async def test_workers_tell_by_way_of_the_database(
    memory_settings: Settings, client: httpx.AsyncClient
) -> None:
    """Sums of all workers, one after another and at once; gauges as long as one is alive."""
    for _ in range(2):
        async with open_stack(memory_settings, watched=False) as stack:
            telling = Telling(stack.database, stack.scrape)
            stack.telemetry.counted.indexed.add(by=3)
            await telling.tell()
            stack.telemetry.counted.indexed.add(by=2)
            await telling.tell()
            await telling.tell()
    await asyncio.sleep(2.1)
    found = await read(client)
    assert found["aidb_indexed_documents_total"]["process=worker"] == 10
    assert found["aidb_process_resident_bytes"]["process=worker"] > 1 << 24
    assert found["aidb_workers"][""] == 2


async def test_only_who_operates_the_stack_may_see_it(memory_settings: Settings) -> None:
    settings = memory_settings.model_copy(update={"auth": "required"})
    async with gateway(settings) as client:
        assert (await client.get("/metrics")).status_code == 401
        wrong = {"authorization": "Bearer aidb_00000000_wrong"}
        assert (await client.get("/metrics", headers=wrong)).status_code == 401
        watcher, key = [await made(client, settings, s) for s in ("operate", "read")]
        as_operator = {"x-api-key": watcher}
        for path in ("/metrics", "/reports/slow", "/reports/usage"):
            answer = await client.get(path, headers={"x-api-key": key})
            assert answer.status_code == 403
        counted = (await read(client, watcher))["aidb_authentications_total"]
        text = (await client.get("/metrics", headers=as_operator)).text
    for verdict, least in {"missing": 1, "invalid": 1, "scope": 3, "accepted": 4}.items():
        assert counted[f"process=gateway,verdict={verdict}"] >= least
    for secret in (watcher, key, key[5:13], "a key to", str(PROJECT)):
        assert secret not in text


async def made(client: httpx.AsyncClient, settings: Settings, scope: str) -> str:
    """A key with one scope."""
    operator = Credentials(None, settings.secrets / "operator")
    body = {"name": f"a key to {scope}", "scopes": [scope]}
    answer = await client.post("/keys", json=body, auth=operator)
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]
    return key


@contextmanager
def standing(url: str) -> Iterator[None]:
    """PostgreSQL stands still, as on a hung machine."""
    pidfile = Path(url.rpartition("host=")[2], "data", "postmaster.pid")
    leader = psutil.Process(int(pidfile.read_text().split()[0]))
    leader.suspend()
    stopped = [leader, *leader.children(recursive=True)]
    try:
        for process in stopped:
            process.suspend()
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def apart(memory_settings: Settings, **given: object) -> AsyncIterator[tuple[Settings, str]]:
    """Settings of a stack on a PostgreSQL of its own."""
    with servers.postgres() as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE stack")
        made = url.format(database="stack")
        migrate(made)
        update = {"database_url": SecretStr(made), **given}
        yield memory_settings.model_copy(update=update), made


async def test_a_postgres_that_stands_still_is_told_and_waited_for_by_nobody(
    memory_settings: Settings,
) -> None:
    given = {"auth": "required", "auth_grace_s": 10.0}
    async with apart(memory_settings, **given) as (settings, url), gateway(settings) as client:
        key = await made(client, settings, "operate")
        before = await read(client, key)
        assert before["aidb_up"]["part=postgres"] == 1
        with standing(url):
            for _ in range(6):  # past the time for which verdicts hold
                began = time.monotonic()
                during = await read(client, key)
                assert time.monotonic() - began < 12
                await asyncio.sleep(2)
            assert during["aidb_up"]["part=postgres"] == 0
            assert "aidb_postgres_size_bytes" not in during
            assert during["aidb_process_resident_bytes"]["process=gateway"] > 0
            wrong = {"authorization": "Bearer something-else"}
            assert (await client.get("/metrics", headers=wrong)).status_code in (401, 503)
        for _ in range(100):
            after = await read(client, key)
            if after["aidb_up"]["part=postgres"]:
                break
            await asyncio.sleep(0.2)
        assert after["aidb_up"]["part=postgres"] == 1


async def test_redis_is_told_of_and_its_absence_too(memory_settings: Settings) -> None:
    with servers.redis() as redis:
        given = {"redis_url": SecretStr(f"unix://{redis.socket}"), "auth": "off"}
        async with gateway(memory_settings.model_copy(update=given)) as client:
            for _ in range(2):
                await client.post("/search/semantic", json={"query": "words"})
            up = await read(client)
            redis.kill()
            await asyncio.sleep(4.1)
            down = await read(client)
    assert up["aidb_redis_memory_bytes"]["store=cache"] > 1 << 16
    assert up["aidb_redis_lookups_total"]["result=hit,store=cache"] > 0
    assert up["aidb_redis_evictions_total"]["store=cache"] == 0
    assert down["aidb_up"]["part=redis"] == 0
    assert "aidb_redis_memory_bytes" not in down


async def test_a_point_that_is_missing_makes_the_index_diverge(stack: Stack) -> None:
    """Planted: the index forgets its points, the vectors stay."""
    await stack.documents.add(Principal(), [NewDocument("some words", key="diverging")])
    divergence = stack.telemetry.metrics.found.divergence
    await stack.scrape._index()
    before = divergence.cells[()]
    await stack.indexing.vectors.drop((await stack.models.active()).model)
    await stack.scrape._index()
    assert divergence.cells[()] > before
