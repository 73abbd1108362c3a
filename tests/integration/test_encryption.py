"""Envelopes at rest on a real PostgreSQL: nothing in the clear, the same answers, keys rotated."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import psycopg
import pytest

from ai_stack.errors import SettingsError
from ai_stack.services.encryption.projects import KIND, Resealing
from ai_stack.services.handlers import Handler
from ai_stack.settings import Settings, environment_of
from ai_stack.stack import Stack, open_stack
from gateways import gateway, worker

pytestmark = pytest.mark.alone

SECRET = "kingfisher zeppelin quixotic"
TABLES = ("documents", "chunks", "run_blobs", "responses")


@dataclass
class House:
    """A gateway with a worker beside it, and a look at what the database holds."""

    http: httpx.AsyncClient
    stack: Stack
    url: str

    def sql(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as owner:
            done = owner.execute(text, parameters)
            return done.fetchall() if done.description else []

    def in_the_clear(self, word: str) -> list[str]:
        """The tables with a row in which this word stands as text or bytes."""
        found = []
        for table in TABLES:
            rows = self.sql(f"SELECT * FROM aidb.{table}")
            told = b"\n".join(_bytes(cell) for row in rows for cell in row)
            if word.encode() in told:
                found.append(table)
        return found

    async def add(self, content: str, **more: object) -> dict[str, Any]:
        made = await self.http.post("/documents", json={"content": content, **more})
        assert made.status_code == 201, made.text
        return made.json()

    async def change(self, change: str) -> dict[str, Any]:
        """Enable, disable or rotate, and wait for the run."""
        begun = await self.http.post("/encryption", json={"change": change})
        assert begun.status_code == 202, begun.text
        return await self.ended(begun.json()["id"])

    async def ended(self, run_id: str) -> dict[str, Any]:
        for _ in range(600):
            run = (await self.http.get(f"/runs/{run_id}")).json()
            if run["status"] not in ("queued", "running"):
                assert run["status"] == "succeeded", run
                return run
            await asyncio.sleep(0.1)
        raise AssertionError(run)

    async def found(self, query: str, mode: str) -> list[str]:
        asked = {"query": query, "mode": mode}
        answer = await self.http.post("/search/semantic", json=asked)
        assert answer.status_code == 200, answer.text
        return [
            passage["text"] for result in answer.json()["results"] for passage in result["passages"]
        ]


def _bytes(cell: object) -> bytes:
    return bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode()


@asynccontextmanager
async def house(settings: Settings) -> AsyncIterator[House]:
    assert settings.database is not None
    async with (
        open_stack(settings) as stack,
        worker(stack),
        gateway(settings) as http,
    ):
        quick = Resealing(stack.database, settle_s=0.2)
        cast(dict[str, Handler], stack.runs.handlers)[KIND] = quick
        yield House(http, stack, settings.database)


@pytest.fixture
async def home(memory_settings: Settings) -> AsyncIterator[House]:
    async with house(memory_settings) as made:
        made.sql("DELETE FROM aidb.sealing")
        for table in ("documents", "responses", "runs", "dirty"):
            made.sql(f"DELETE FROM aidb.{table}")
        made.sql("DELETE FROM control.data_keys WHERE project_id IS NOT NULL")
        yield made


async def test_what_is_sealed_is_not_in_the_database_and_is_answered_as_ever(home: House) -> None:
    before = await home.add(f"# Birds\n\nThe {SECRET} came first.", metadata={"title": "one"})
    assert set(home.in_the_clear("kingfisher zeppelin")) == {"documents", "chunks"}
    run = await home.change("enable")
    assert run["output"]["rewritten"] == 1
    after = await home.add(f"A second {SECRET} follows.", id="own key")
    vector = [0.0] * 7 + [1.0]
    with contextlib.suppress(AssertionError):
        await home.add(f"A third {SECRET} brings its vector.", vector=vector)
    assert home.in_the_clear("kingfisher zeppelin") == []
    for stored in (before, after):
        id = stored["id"]
        told = (await home.http.get(f"/documents/{id}")).json()
        assert told["content"] == stored["content"]
        assert told["updated_at"] == stored["updated_at"]
    for mode in ("keyword", "semantic", "hybrid"):
        texts = await home.found("kingfisher", mode)
        assert any(SECRET in text for text in texts), mode
    listed = (await home.http.get("/documents", params={"search": "quixotic"})).json()["items"]
    assert len(listed) >= 2
    exported = (await home.http.get("/documents/export")).text
    assert exported.count(SECRET) == len(listed)
    state = (await home.http.get("/encryption")).json()
    assert state["sealed"]
    assert state["done"]
    assert state["in_the_clear"]


async def test_changes_of_sealed_documents_do_what_they_did(home: House) -> None:
    await home.change("enable")
    made = await home.add(SECRET, id="note")
    chunks = "SELECT id FROM aidb.chunks ORDER BY id"
    first = home.sql(chunks)
    same = await home.http.patch("/documents/note", json={"metadata": {"tag": "x"}})
    assert same.json()["content"] == SECRET
    assert home.sql(chunks) == first  # the same content is not cut again
    put = await home.http.put("/documents/note", json={"content": "something else entirely"})
    assert put.json()["content"] == "something else entirely"
    assert home.sql(chunks) != first
    assert home.in_the_clear("entirely") == []
    assert put.json()["id"] == made["id"]
    gone = await home.http.delete("/documents/note")
    assert gone.status_code == 204
    assert home.sql("SELECT count(*) FROM aidb.chunks") == [(0,)]


async def test_files_and_their_documents_are_sealed_from_the_upload_on(home: House) -> None:
    await home.change("enable")
    for expected in ("added", "unchanged"):
        files = {"files": ("secret.md", f"# Title\n\n{SECRET}\n".encode())}
        begun = await home.http.post("/documents/import", files=files)
        assert begun.status_code == 202, begun.text
        assert home.in_the_clear("kingfisher zeppelin") == []
        run = await home.ended(begun.json()["id"])
        assert run["output"]["documents"].get(expected, run["output"]), run
    kept = await home.http.post("/skills/files", files={"files": ("a.txt", SECRET.encode())})
    assert kept.status_code in (200, 201), kept.text
    assert home.in_the_clear("kingfish") == ["chunks"]  # by its words alone
    words = home.sql("SELECT words::text FROM aidb.chunks")
    assert all(":" not in row[0] for row in words)  # none has a place


async def test_stored_responses_are_sealed(home: House) -> None:
    plain = await _respond(home, SECRET)
    await home.change("enable")
    sealed = await _respond(home, f"again {SECRET}", previous_response_id=plain["id"])
    assert home.in_the_clear("kingfisher") == []
    for made in (plain, sealed):
        told = (await home.http.get(f"/v1/responses/{made['id']}")).json()
        assert told["output"] == made["output"]
    items = (await home.http.get(f"/v1/responses/{sealed['id']}/input_items")).json()
    assert SECRET in str(items)
    await home.change("disable")
    assert home.in_the_clear("kingfisher") == ["responses"]
    again = (await home.http.get(f"/v1/responses/{sealed['id']}")).json()
    assert again["output"] == sealed["output"]


async def _respond(home: House, text: str, **more: object) -> dict[str, Any]:
    asked = {"model": "memory", "input": text, "store": True, **more}
    made = await home.http.post("/v1/responses", json=asked)
    assert made.status_code == 200, made.text
    return made.json()


async def test_the_clear_comes_back_whole_with_its_words(home: House) -> None:
    await home.add(f"# Birds\n\nThe {SECRET} came first.")
    rows = "SELECT heading, text, words::text, content FROM aidb.chunks, aidb.documents"
    before = home.sql(rows)
    await home.change("enable")
    assert home.sql(rows) != before
    await home.change("disable")
    assert home.sql(rows) == before
    assert home.sql("SELECT count(*) FROM control.data_keys WHERE project_id IS NOT NULL") == [(0,)]
    refused = await home.http.post("/encryption", json={"change": "rotate"})
    assert refused.status_code == 409


async def test_a_sealed_value_opens_in_its_own_row_alone(home: House) -> None:
    await home.change("enable")
    one, two = await home.add(f"{SECRET} one"), await home.add(f"{SECRET} two")
    home.sql(
        "UPDATE aidb.documents SET sealed = (SELECT sealed FROM aidb.documents WHERE id = %s)"
        " WHERE id = %s",
        one["id"],
        two["id"],
    )
    moved = await home.http.get(f"/documents/{two['id']}")
    assert moved.status_code == 500
    assert SECRET not in moved.text
    assert (await home.http.get(f"/documents/{one['id']}")).json()["content"] == f"{SECRET} one"


@dataclass
class Load:
    """Writers and readers that go on until they are told to end, and what went wrong for them."""

    home: House
    kept: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    done: int = 0
    over: bool = False

    async def write(self, writer: int) -> None:
        number = 0
        while not self.over:
            number += 1
            id, content = f"{writer}/{number % 7}", f"{SECRET} by {writer}, {number}. " * 20
            answer = await self.home.http.put(
                f"/documents/{id.replace('/', '%2F')}", json={"content": content}
            )
            if answer.status_code == 404:
                answer = await self.home.http.post(
                    "/documents", json={"content": content, "id": id}
                )
            self._check(answer, answer.is_success)
            self.kept[id] = content

    async def read(self, _: int) -> None:
        while not self.over:
            for id in list(self.kept):
                answer = await self.home.http.get(f"/documents/{id.replace('/', '%2F')}")
                self._check(
                    answer, answer.is_success and answer.json()["content"].startswith(SECRET)
                )
            texts = await self.home.found("zeppelin", "keyword")
            if any(SECRET not in text for text in texts):
                self.wrong.append(f"a passage: {texts}")
            await asyncio.sleep(0)

    def _check(self, answer: httpx.Response, good: bool) -> None:
        self.done += 1
        if not good:
            self.wrong.append(f"{answer.status_code} {answer.text[:200]}")

    async def during(self, work: Callable[[], Awaitable[object]]) -> None:
        tasks = [asyncio.create_task(self.write(n)) for n in range(3)]
        tasks += [asyncio.create_task(self.read(n)) for n in range(2)]
        try:
            await work()
        finally:
            self.over = True
            await asyncio.gather(*tasks)
        for id, content in self.kept.items():
            answer = await self.home.http.get(f"/documents/{id.replace('/', '%2F')}")
            assert answer.json()["content"] == content
        assert self.wrong == []
        assert self.done > 50


async def test_keys_are_rotated_under_writers_and_readers(home: House) -> None:
    new = [{"content": f"{SECRET} {number}"} for number in range(300)]
    await home.http.post("/documents", json={"documents": new}, params={"wait": "false"})
    load = Load(home)

    async def rotations() -> None:
        await home.change("enable")
        masters = {(await home.http.get("/encryption")).json()["master"]}
        for _ in range(2):
            run = await home.change("rotate")
            assert run["output"]["keys_forgotten"] == 1
            told = await home.http.post("/encryption/master")
            assert told.json()["in_place"] is True
            masters.add(told.json()["master"])
        assert len(masters) == 3
        await home.change("disable")
        await home.change("enable")

    await load.during(rotations)
    assert home.in_the_clear("kingfisher zeppelin") == []
    assert home.sql("SELECT count(*) FROM control.data_keys WHERE project_id IS NOT NULL") == [(1,)]


async def test_a_new_master_touches_no_row_and_the_old_one_opens_nothing(
    home: House, memory_settings: Settings
) -> None:
    await home.change("enable")
    made = await home.add(SECRET)
    rows = "SELECT xmin::text, sealed FROM aidb.documents"
    before, file = home.sql(rows), memory_settings.master_file
    old = file.read_bytes()
    told = (await home.http.post("/encryption/master")).json()
    assert home.sql(rows) == before
    assert file.read_bytes() != old
    kept = [path for path in file.parent.glob("master.*") if path.read_bytes() == old]
    assert len(kept) == 1
    async with house(memory_settings) as again:
        found = (await again.http.get(f"/documents/{made['id']}")).json()
        assert found["content"] == SECRET
        assert (await again.http.get("/encryption")).json()["master"] == told["master"]


@pytest.mark.parametrize("damage", ["lost", "another", "short", "open to all"])
async def test_a_lost_or_wrong_master_is_told_at_the_start_and_changes_nothing(
    home: House, memory_settings: Settings, damage: str
) -> None:
    await home.change("enable")
    await home.add(SECRET)
    file = memory_settings.master_file
    good = file.read_bytes()
    rows = "SELECT * FROM control.data_keys ORDER BY id"
    before = home.sql(rows)
    try:
        if damage == "lost":
            file.unlink()
        elif damage == "open to all":
            file.chmod(0o644)
        else:
            file.write_bytes(os.urandom(32) if damage == "another" else b"short")
        with pytest.raises(SettingsError, match="master key"):
            async with open_stack(memory_settings):
                pass
        assert file.exists() == (damage != "lost")
        assert home.sql(rows) == before
    finally:
        file.write_bytes(good)
        file.chmod(0o600)
    async with open_stack(memory_settings):
        pass


@pytest.mark.parametrize("step", ["wrapped", "renamed"])
async def test_a_master_rotation_that_died_half_way_is_ended_by_the_next_start(
    home: House, memory_settings: Settings, step: str
) -> None:
    await home.change("enable")
    made = await home.add(SECRET)
    files = home.stack.encryption.keyring.files
    if step == "wrapped":  # the successor is there, and nothing is under it yet
        files.successor()
    else:  # all keys are under the successor, and the master's file is still the old one
        old = files.file.read_bytes()
        assert (await home.http.post("/encryption/master")).is_success
        files.file.rename(files.next)
        files.file.write_bytes(old)
        files.file.chmod(0o600)
    async with house(memory_settings) as again:
        found = (await again.http.get(f"/documents/{made['id']}")).json()
        assert found["content"] == SECRET
        assert files.next.exists() == (step == "wrapped")
    files.next.unlink(missing_ok=True)


RUN = """
import asyncio
from types import SimpleNamespace
from ai_stack.models.principals import Principal
from ai_stack.services.encryption.projects import Resealing
from ai_stack.settings import load_settings
from ai_stack.stack import open_stack

async def told(done, total, message):
    print(done, flush=True)

async def main():
    async with open_stack(load_settings()) as stack:
        await Resealing(stack.database)(SimpleNamespace(principal=Principal(), progress=told))

asyncio.run(main())
"""


async def test_a_rewriting_that_is_killed_half_way_leaves_everything_readable(
    memory_settings: Settings, home: House
) -> None:
    contents = {f"n{number}": f"{SECRET} {number} " * 20 for number in range(700)}
    new = [{"id": id, "content": content} for id, content in contents.items()]
    made = await home.http.post("/documents", json={"documents": new}, params={"wait": "false"})
    assert made.is_success
    key = home.stack.encryption.keyring.make()
    home.sql(
        "INSERT INTO control.data_keys (id, project_id, master, wrapped)"
        " SELECT %s, id, %s, %s FROM aidb.projects",
        *(key.id, key.master, key.wrapped),
    )
    home.sql("INSERT INTO aidb.sealing SELECT id, %s FROM aidb.projects", key.id)
    left = []
    for _ in range(3):
        await asyncio.to_thread(_killed_half_way, memory_settings)  # the house goes on indexing
        left += home.sql("SELECT count(*) FROM aidb.documents WHERE sealed IS NULL")[0]
        assert await _exported(home) == contents
    assert 0 < left[-1] < left[0] < 700, left
    run = await home.http.post("/encryption", json={"change": "enable"})  # goes on
    assert (await home.ended(run.json()["id"]))["output"]["rewritten"] >= left[-1]
    assert home.in_the_clear("kingfisher") == []
    assert await _exported(home) == contents


async def _exported(home: House) -> dict[str, str]:
    lines = (await home.http.get("/documents/export")).text.splitlines()
    documents = [json.loads(line) for line in lines]
    return {document["id"]: document["content"] for document in documents}


def _killed_half_way(settings: Settings) -> None:
    """Rewrite until some are done, and die of SIGKILL in the middle of the next."""
    environment = {**os.environ, **environment_of(settings), "AI_STACK_SUPERVISED": "x"}
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        done = process.stdout.readline()
        process.kill()
    assert done.strip().isdigit()
