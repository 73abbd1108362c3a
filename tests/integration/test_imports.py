"""Imports and exports through a real gateway and worker, on a real PostgreSQL."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest

import gateways
from ai_stack.database import Database
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchRequest
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack

ME = Principal()
Files = list[tuple[str, tuple[str, bytes, str]]]


@pytest.fixture(scope="module")
def settings(memory_settings: Settings) -> Settings:
    return memory_settings.model_copy(
        update={"import_max_file_bytes": 3 << 20, "import_max_total_bytes": 24 << 20}
    )


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with gateways.gateway(settings) as client:
        yield client


@pytest.fixture(scope="module")
async def idle_stack(settings: Settings) -> AsyncIterator[Stack]:
    async with open_stack(settings) as opened:
        yield opened


@pytest.fixture
async def stack(idle_stack: Stack) -> AsyncIterator[Stack]:
    """A stack whose worker works."""
    async with gateways.worker(idle_stack):
        yield idle_stack


def md(name: str, text: str) -> tuple[str, tuple[str, bytes, str]]:
    return ("files", (name, text.encode(), "text/markdown"))


async def imported(client: httpx.AsyncClient, files: Files, **fields: str) -> dict:
    answer = await client.post("/documents/import?wait=true", files=files, data=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def files_of(client: httpx.AsyncClient, run: dict) -> list[dict]:
    return (await client.get(f"/runs/{run['id']}/files")).json()["items"]


async def rows(database: Database, table: str) -> int:
    async with database.transaction(ME.project_id) as tx:
        row = await tx.row(f"SELECT count(*) FROM {table}")
        return row[0]


async def test_a_file_becomes_a_document_that_is_found(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    text = "# Tides\n\nThe moon pulls the oceans twice a day.\n"
    run = await imported(
        client, [md("sea/tides.md", text)], prefix="docs/", metadata='{"topic": "sea"}'
    )
    assert (run["status"], run["output"]["added"]) == ("succeeded", 1), run
    assert (await files_of(client, run))[0]["document_id"] == "docs/sea/tides.md"
    document = (await client.get("/documents/docs/sea/tides.md")).json()
    assert document["state"] == "indexed"
    assert document["metadata"]["title"] == "Tides"
    assert document["metadata"]["topic"] == "sea"
    assert document["metadata"]["path"] == "sea/tides.md"
    found = await stack.search.search(SearchRequest(query="moon oceans"), ME)
    assert found.results[0].document.id == "docs/sea/tides.md"
    assert await rows(stack.database, "run_blobs") == 0


async def test_the_same_path_again(client: httpx.AsyncClient, stack: Stack) -> None:
    first = await imported(client, [md("again.md", "# One\n"), md("other.md", "# Other\n")])
    assert first["output"]["added"] == 2
    second = await imported(client, [md("again.md", "# Two\n"), md("other.md", "# Other\n")])
    assert (second["output"]["updated"], second["output"]["unchanged"]) == (1, 1)
    assert (await client.get("/documents/again.md")).json()["content"] == "# Two\n"


async def test_one_bad_file_does_not_harm_the_others(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    good = md("good.md", "# Good\n")
    empty = ("files", ("empty.md", b"", "text/markdown"))
    pdf = ("files", ("broken.pdf", b"%PDF-1.7 nonsense", "application/pdf"))
    large = ("files", ("large.txt", b"x" * (3 << 20) + b"y", "text/plain"))
    run = await imported(client, [empty, good, pdf, large])
    states = {f["path"]: f["state"] for f in await files_of(client, run)}
    assert states == {
        "empty.md": "failed",
        "good.md": "added",
        "broken.pdf": "failed",
        "large.txt": "failed",
    }
    assert all(f.get("error") for f in await files_of(client, run) if f["state"] == "failed")
    assert await rows(stack.database, "run_blobs") == 0


async def test_hostile_names(client: httpx.AsyncClient, stack: Stack) -> None:
    names = ["../../etc/a.md", "/root/b.md", "C:\\Users\\c.md", "x/./../d.md", "Zu\u0308rich.md"]
    run = await imported(client, [md(n, f"# {i}\n") for i, n in enumerate(names)], prefix="h/")
    paths = {f["path"] for f in await files_of(client, run)}
    assert paths == {"etc/a.md", "root/b.md", "c.md", "x/d.md", "Zürich.md"}


async def test_the_same_file_twice_in_one_request(client: httpx.AsyncClient, stack: Stack) -> None:
    run = await imported(client, [md("twice.md", "# First\n"), md("twice.md", "# Second\n")])
    assert [f["state"] for f in await files_of(client, run)] == ["added", "updated"]
    assert (await client.get("/documents/twice.md")).json()["content"] == "# Second\n"


async def test_imports_of_one_path_at_once(client: httpx.AsyncClient, stack: Stack) -> None:
    sent = [imported(client, [md("race.md", f"# Race {n}\n")]) for n in range(6)]
    runs = await asyncio.gather(*sent)
    assert all(run["status"] == "succeeded" for run in runs), runs
    assert sum(run["output"].get("added", 0) for run in runs) == 1


async def test_what_is_refused(client: httpx.AsyncClient, idle_stack: Stack) -> None:
    before = await rows(idle_stack.database, "runs")
    refused = {
        "no file": await client.post("/documents/import", files={"prefix": (None, "x/")}),
        "only file too large": await client.post(
            "/documents/import", files=[("files", ("l.txt", b"x" * (4 << 20), "text/plain"))]
        ),
        "another type": await client.post("/documents/import", content=b"x"),
        "no boundary": await client.post(
            "/documents/import", content=b"x", headers={"Content-Type": "multipart/form-data"}
        ),
        "malformed": await client.post(
            "/documents/import",
            content=b"--b\r\nnonsense",
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        ),
        "bad metadata": await client.post(
            "/documents/import", files=[md("m.md", "# M\n")], data={"metadata": "[1]"}
        ),
        "deep metadata": await client.post(
            "/documents/import",
            files=[md("m.md", "# M\n")],
            data={"metadata": '{"a":' * 300 + "1" + "}" * 300},
        ),
        "unknown field": await client.post(
            "/documents/import", files=[md("m.md", "# M\n")], data={"colour": "red"}
        ),
        "not a URL": await client.post("/documents/import", json={"url": "file:///etc/passwd"}),
        "deep metadata of a URL": await client.post(
            "/documents/import",
            content='{"url": "http://x.example/", "metadata": ' + '{"a":' * 300 + "1" + "}" * 301,
            headers={"Content-Type": "application/json"},
        ),
        "private": await client.post("/documents/import", json={"url": "http://127.0.0.1:9/"}),
    }
    codes = {name: answer.status_code for name, answer in refused.items()}
    assert codes == dict.fromkeys(refused, 422) | {"only file too large": 413, "another type": 415}
    assert await rows(idle_stack.database, "runs") == before
    assert await rows(idle_stack.database, "run_blobs") == 0


async def test_a_client_that_leaves_leaves_nothing(
    client: httpx.AsyncClient, idle_stack: Stack
) -> None:
    before = await rows(idle_stack.database, "runs")
    url = client.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        f"POST /documents/import HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 20000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="a.jsonl"\r\n\r\n'
    )
    writer.write(head.encode() + b"x" * (6 << 20))
    await writer.drain()
    async with asyncio.timeout(10):
        while await rows(idle_stack.database, "run_blobs") == 0:
            await asyncio.sleep(0.02)
    writer.close()
    async with asyncio.timeout(10):
        while await rows(idle_stack.database, "runs") != before:
            await asyncio.sleep(0.02)
    assert await rows(idle_stack.database, "run_blobs") == 0


async def exported(client: httpx.AsyncClient, **options: str) -> bytes:
    answer = await client.get("/documents/export", params=options)
    assert answer.status_code == 200
    return answer.content


async def test_an_export_restores_the_same_documents(
    client: httpx.AsyncClient, stack: Stack, settings: Settings
) -> None:
    odd = {"a": [1, 2.5, None, True], "ü": {"deep": "\u2028"}, "big": 2**53 + 1}
    for n in range(12):
        body = {"content": f"Text {n} \U0001f600\n", "metadata": {**odd, "n": n, "kept": True}}
        keyed = {"id": f"k/{n}"} if n % 2 else {}
        vector = {"vector": [1.0, 0.333, *([0.0] * 382)]} if n == 3 else {}
        answer = await client.post("/documents", json=body | keyed | vector)
        assert answer.status_code == 201, answer.text
    first = await exported(client, filter='{"kept": true}')
    lines = [orjson.loads(line) for line in first.splitlines()]
    assert len(lines) == 12
    unchanged = await imported(client, [("files", ("all.jsonl", first, "application/x-ndjson"))])
    assert unchanged["output"]["documents"] == {"unchanged": 12}
    for line in lines:
        assert (await client.delete(f"/documents/{line['id']}")).status_code == 204
    assert await exported(client, filter='{"kept": true}') == b""
    restored = await imported(client, [("files", ("all.jsonl", first, "application/x-ndjson"))])
    assert restored["output"]["documents"] == {"added": 12}
    assert await exported(client, filter='{"kept": true}') == first


async def test_lines_that_are_no_documents_are_told(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    good = {
        "id": "line",
        "content": "A good line.",
        "metadata": {},
        "created_at": "2024-01-02T03:04:05Z",
        "updated_at": "2024-01-02T03:04:05Z",
    }
    early = {**good, "id": "early", "created_at": "0001-01-01T00:00:00+23:59"}
    lines = [good, {**good, "id": "naive", "created_at": "2024-01-02"}, {"id": 1}, early]
    body = b"\n".join(orjson.dumps(line) for line in lines)
    answer = await client.post(
        "/documents/import?wait=true", files=[("files", ("x.jsonl", body, "")), md("y.md", "# Y")]
    )
    file = (await files_of(client, answer.json()))[0]
    assert file["state"] == "failed"
    assert "3 lines" in file["error"]
    assert "line 2" in file["error"]
    assert (await client.get("/documents/line")).json()["created_at"].startswith("2024-01-02")


async def test_a_large_export_is_restored(client: httpx.AsyncClient, stack: Stack) -> None:
    """Twenty megabytes, each line a mebibyte, over the limit of other files."""
    line = {
        "content": os.urandom(1 << 19).hex(),
        "metadata": {},
        "vector": [1.0] * 384,
        "created_at": "2024-01-02T03:04:05Z",
        "updated_at": "2024-01-02T03:04:05Z",
    }
    body = b"\n".join(orjson.dumps({"id": f"big/{n}", **line}) for n in range(20))
    digest = hashlib.sha256(line["content"].encode()).hexdigest()
    answer = await client.post("/documents/import", files=[("files", ("big.jsonl", body, ""))])
    assert answer.status_code == 202
    run = await stack.runs.wait(ME, answer.json()["id"], 50)
    assert run.output is None or run.output["documents"] == {"added": 20}, run
    stored = (await client.get("/documents/big/7")).json()["content"]
    assert hashlib.sha256(stored.encode()).hexdigest() == digest
