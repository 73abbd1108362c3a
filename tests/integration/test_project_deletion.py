"""A project with something of every kind is deleted, by a worker that is killed half-way."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

import servers
from ai_stack.caches.pipeline import Address, Pipeline
from ai_stack.settings import Settings
from scripted import ScriptedModel, says
from tenants import RIGHTS, Caller, Gateway, guarded
from vectors import engine

CANARY, SPARED = "quetzalcoatlus", "archaeopteryx"
MANY = 6000
READS: Mapping[bytes, tuple[Any, ...]] = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"zset": ("ZRANGE", 0, -1),
    b"hash": ("HGETALL",),
    b"set": ("SMEMBERS",),
}


@pytest.fixture(scope="module")
async def redis_url() -> AsyncIterator[str]:
    with servers.redis() as server:
        yield f"unix://{server.socket}"


@pytest.fixture(scope="module")
async def settings(
    database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    folder = tmp_path_factory.mktemp("deletion")
    model = ScriptedModel(lambda messages: says(f"So you say: {messages[-1]['content']}"))
    async with model.serving(), engine(folder) as index:
        yield Settings(
            data_dir=folder / "stack",
            config_dir=folder / "config",
            database_url=SecretStr(database_url),
            redis_url=SecretStr(redis_url),
            vectors_url=SecretStr(index.url),
            embedder_url=SecretStr("memory:"),
            engines=SecretStr(model.url),
            auth="required",
        )


@pytest.fixture(scope="module")
async def gate(settings: Settings) -> AsyncIterator[Gateway]:
    async with guarded(settings) as opened:
        yield opened


@contextmanager
def worker(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """The worker in a process of its own."""
    secrets = ("database_url", "redis_url", "vectors_url", "embedder_url", "engines")
    values = {n: getattr(settings, n).get_secret_value() for n in secrets}
    variables = {f"AI_STACK_{n.upper()}": v for n, v in values.items()}
    folders = {"AI_STACK_DATA_DIR": str(settings.data_dir), "HOME": str(settings.config_dir)}
    environment = {"PATH": os.environ["PATH"], **variables, **folders}
    process = subprocess.Popen([sys.executable, "-m", "ai_stack", "worker"], env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


async def fill(caller: Caller, word: str) -> None:
    """Something of every kind that a project can have."""
    long = f"{word} lives in the long name of a field"
    for n in range(30):
        document = {"content": f"{word} number {n}", "id": f"{word}/{n}", "metadata": {"n": long}}
        await caller.told("POST", "/documents", document, headers={"Idempotency-Key": f"{word}{n}"})
    await caller.told("POST", "/search/semantic", {"query": f"{word} number 3"})
    chat = {"messages": [{"role": "user", "content": f"Who is {word}?"}], "temperature": 0}
    for _ in range(2):
        await caller.told("POST", "/v1/chat/completions", chat)
    await caller.told("POST", "/v1/responses", {"input": f"Tell of {word}.", "store": True})
    session = await caller.told("POST", "/sessions", {"system": f"You are {word}."})
    await caller.told("POST", f"/sessions/{session['id']}/messages", {"content": f"Hi {word}"})
    files = {"files": (f"{word}.md", f"# {word}\n\nSome text.".encode())}
    run = await caller.http.post("/documents/import", files=files, headers=caller.headers)
    assert run.is_success, run.text
    given = {"parameters": {"text": f"{word} again"}, "background": True}
    await caller.told("POST", "/skills/template-skill/execute", given)
    async with asyncio.timeout(60):  # until no run waits
        while any(
            one["status"] in ("queued", "running")
            for one in (await caller.told("GET", "/runs"))["items"]
        ):
            await asyncio.sleep(0.1)


def fill_much(url: str, project: str, word: str) -> None:
    """So many documents with passages that their deletion takes a while."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO aidb.documents (project_id, content) SELECT %s, %s || n"
            " FROM generate_series(1, %s) n",
            (project, f"{word} ", MANY),
        )
        owner.execute(
            "INSERT INTO aidb.chunks (project_id, document_id, content_version, ordinal,"
            " start_at, end_at, text, words) SELECT project_id, id, content_version, 0, 0, 9,"
            " content, public.search_words(content)"
            " FROM aidb.documents d WHERE project_id = %s AND NOT EXISTS"
            " (SELECT FROM aidb.chunks c WHERE c.document_id = d.id)",
            (project,),
        )


def dumped(url: str) -> str:
    tool = servers.postgres_bin() / "pg_dump"
    done = subprocess.run([tool, url], capture_output=True, text=True, check=True)
    return done.stdout


def has(dump: str, word: str) -> bool:
    """Whether a dump has a word, as text or within bytes."""
    return word in dump or word.encode().hex() in dump


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Pipeline]:
    pipeline = Pipeline(Address.read(url))
    try:
        yield pipeline
    finally:
        await pipeline.aclose()


async def kept(url: str) -> dict[bytes, str]:
    """Every key of a server with its value."""
    async with connected(url) as pipeline:
        found: dict[bytes, str] = {}
        for key in await pipeline.call("KEYS", "*"):  # type: ignore[union-attr]
            kind = await pipeline.call("TYPE", key)
            name, *more = READS[bytes(kind)]  # type: ignore[arg-type]
            found[key] = repr(await pipeline.call(name, key, *more))
        return found


def files_with(folder: Path, word: str) -> list[str]:
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    ]


async def count(url: str, project: str) -> int:
    def asked() -> int:
        with psycopg.connect(url) as owner:
            sql = "SELECT count(*) FROM aidb.documents WHERE project_id = %s"
            row = owner.execute(sql, [project]).fetchone()
            return row[0] if row else 0

    return await asyncio.to_thread(asked)


async def test_nothing_is_left_of_a_project_that_is_deleted(
    gate: Gateway, settings: Settings, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    index = Path(settings.vectors.removeprefix("qdrant-edge://")).parent / "data"
    doomed = await gate.tenant(f"of the {CANARY}", (*RIGHTS, "manage"))
    spared = await gate.tenant(f"of the {SPARED}")
    both = await gate.key(doomed.project, spared.project)
    limits = {"limits": {"requests_per_day": 10_000, "requests_per_minute": 5_000}}
    await gate.operator.told("PATCH", f"/projects/{doomed.project}", limits)
    await doomed.told("POST", "/keys", {"name": CANARY, "scopes": ["read"]})
    with worker(settings) as process:
        await fill(doomed, CANARY)
        await fill(spared, SPARED)
        await asyncio.to_thread(fill_much, database_url, doomed.project, CANARY)
        before = await asyncio.to_thread(dumped, database_url)
        assert has(before, CANARY)
        assert any(CANARY in value for value in (await kept(redis_url)).values())
        assert files_with(index, CANARY)
        run = await gate.operator.told("DELETE", f"/projects/{doomed.project}")
        assert run["kind"] == "delete-project"
        async with asyncio.timeout(60):
            while await count(database_url, doomed.project) > MANY - 500:
                await asyncio.sleep(0.005)
        process.kill()
        process.wait()
    assert 0 < await count(database_url, doomed.project) < MANY
    project = await gate.operator.told("GET", f"/projects/{doomed.project}")
    assert project["state"] == "deleting"
    assert project["deletion"]["progress"]["done"] > 0
    assert (await doomed.ask("GET", "/documents")).status_code == 403
    again = await gate.operator.told("DELETE", f"/projects/{doomed.project}")
    assert again["id"] == run["id"]
    for change in ({"name": "x"}, {"limits": {}}):
        asked = await gate.operator.ask("PATCH", f"/projects/{doomed.project}", change)
        assert asked.status_code == 409
    with worker(settings):
        async with asyncio.timeout(90):
            path = f"/projects/{doomed.project}"
            while (await gate.operator.ask("GET", path)).status_code != 404:
                await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            path = f"/runs/{run['id']}"
            while (done := await gate.operator.told("GET", path))["status"] != "succeeded":
                assert done["status"] in ("queued", "running"), done
                await asyncio.sleep(0.1)
    after = await asyncio.to_thread(dumped, database_url)
    assert not has(after, CANARY)
    left = await kept(redis_url)
    forms = (doomed.project, UUID(doomed.project).hex)
    assert not [key for key, value in left.items() if CANARY in value or CANARY.encode() in key]
    assert not [key for key in left if any(form.encode() in key for form in forms)]
    assert files_with(index, CANARY) == []
    assert files_with(index, doomed.project) == []
    assert (await doomed.ask("GET", "/documents")).status_code == 401
    assert (await both.told("GET", "/auth/me"))["project_id"] == spared.project
    await the_neighbour_is_whole(spared)
    await the_log_tells_who_did_it(gate.operator, doomed.project)


async def the_neighbour_is_whole(spared: Caller) -> None:
    documents = await spared.told("GET", "/documents", params={"limit": 1000})
    assert len(documents["items"]) == 31
    found = await spared.told("POST", "/search/semantic", {"query": f"{SPARED} number 3"})
    assert all(SPARED in one["document"]["content"] for one in found["results"])
    assert len(found["results"]) == 10
    assert len((await spared.told("GET", "/sessions"))["items"]) == 1
    assert len((await spared.told("GET", "/runs"))["items"]) == 2
    usage = await spared.told("GET", "/inference/usage")
    assert sum(one["requests"] for one in usage["items"]) >= 4


async def the_log_tells_who_did_it(operator: Caller, project: str) -> None:
    """Entries stay; nothing is in them but who did what, and how much went."""
    entries = (await operator.told("GET", "/audit", params={"limit": 1000}))["items"]
    ours = {one["action"]: one for one in entries if one["project_id"] == project}
    assert {"project.create", "key.create", "project.delete", "project.gone"} <= set(ours)
    assert ours["project.delete"]["detail"] == {}
    assert ours["project.gone"]["detail"]["documents"] > 0
