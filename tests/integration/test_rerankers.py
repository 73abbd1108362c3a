"""Cross-encoders in the embedder's process: pairs, lanes, downloads; and searches that rerank."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest
import uvicorn
from pydantic import SecretStr
from tokenizers import Tokenizer

import embedders
import hub
import rerankers
from ai_stack.embedders.cross_encoders import CrossEncoder, describe
from ai_stack.embedders.pairs import PairSession
from ai_stack.embedders.weights import minilm
from ai_stack.errors import InvalidRequest, SettingsError, StackError, TooBusy, Unavailable
from ai_stack.server import create_app
from ai_stack.services.search import NO_RERANK
from ai_stack.settings import Settings

QUERY = "worn brake pads"
KNOWN = "cross-encoder/ms-marco-MiniLM-L6-v2"


def session(folder: Path, **fields: object) -> PairSession:
    rerankers.describe(folder)
    model = CrossEncoder("tiny", folder=str(folder), **fields)
    return PairSession(model, folder / "model.onnx", folder / "tokenizer.json")


def plain_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(minilm(embedders.CACHE).tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


async def test_pairs_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    passages = ["Replace both sides.", "", "Ünïcode 日本 " * 30]
    tokenizer = plain_tokenizer()
    expected = tokenizer.encode_batch([(QUERY, passage) for passage in passages])
    found = session(tmp_path).pairs(QUERY, passages)
    assert [(list(p.ids), list(p.types)) for p in found] == [(e.ids, e.type_ids) for e in expected]


async def test_only_a_passage_is_cut_and_only_when_the_pair_is_too_long(tmp_path: Path) -> None:
    made = session(tmp_path, max_tokens=16)
    tokenizer = plain_tokenizer()
    cls, sep, word = 101, 102, ids(tokenizer, "word")
    query = ids(tokenizer, QUERY)
    for count, kept in ((9, 9), (10, 10), (11, 10), (400, 10)):
        (pair,) = made.pairs(QUERY, ["word " * count])
        assert list(pair.ids) == [cls, *query, sep, *word * kept, sep]
        assert list(pair.types) == [0] * 5 + [1] * (kept + 1)
    assert made.pairs("word " * 8, ["word"])
    with pytest.raises(InvalidRequest, match="at most 8 tokens: this one has 9"):
        made.pairs("word " * 9, ["word"])


async def test_a_score_is_the_logit_or_its_sigmoid(tmp_path: Path) -> None:
    for score, expected in (("logit", 3), ("sigmoid", 1 / (1 + np.exp(-3)))):
        made = session(tmp_path, score=score)
        (row,) = made.run(made.pairs(QUERY, ["worn brake pads"]))
        assert row == pytest.approx(expected, abs=1e-6)


async def test_a_model_of_two_outputs_is_not_taken_for_one(tmp_path: Path) -> None:
    variables = rerankers.describe(tmp_path, rerankers.sharing(outputs=2))
    async with rerank_child(**variables) as url:
        async with rerankers.opened("cross-encoder:tiny", url) as reranker:
            with pytest.raises(Unavailable, match="could not run"):
                await reranker.rerank(QUERY, ["one"])
        async with embedders.opened(url) as embedder:
            assert (await embedder.embed(["still here"], "query")).shape == (1, 384)


@asynccontextmanager
async def rerank_child(*arguments: str, **variables: str) -> AsyncIterator[str]:
    async with embedders.child(*arguments, **variables) as (socket, _):
        yield f"onnx://{socket}"


async def test_a_search_waits_neither_for_reranks_nor_they_for_an_import(tmp_path: Path) -> None:
    variables = rerankers.describe(tmp_path, rerankers.heavy())
    passage = "Open a file and read its lines. The file is closed when the block ends. " * 11
    async with (
        rerank_child(**variables) as url,
        embedders.opened(url) as embedder,
        rerankers.opened("cross-encoder:tiny", url) as reranker,
    ):
        await reranker.rerank(QUERY, [passage])
        imported = asyncio.create_task(embedder.embed([passage] * 200, "passage"))
        await asyncio.sleep(0.2)
        rerank = asyncio.create_task(reranker.rerank(QUERY, [passage] * 30))
        begin, queries = time.monotonic(), 0
        while not rerank.done():
            await embedder.embed([f"where is file {queries}?"], "query")
            queries += 1
        took_s = time.monotonic() - begin
        await rerank
        assert not imported.done()
        imported.cancel()
    print(f"{queries} queries while 30 passages of {len(passage)} characters took {took_s:.2f} s")
    assert took_s / queries < 0.15


async def test_a_full_lane_says_so(tmp_path: Path) -> None:
    variables = rerankers.describe(tmp_path, rerankers.heavy())
    async with (
        rerank_child("--threads", "1", **variables) as url,
        rerankers.opened("cross-encoder:tiny", url) as reranker,
    ):
        calls = [reranker.rerank(QUERY, ["word " * 240] * 90) for _ in range(4)]
        tasks = [asyncio.create_task(call) for call in calls]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(TooBusy):
            done.pop().result()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert len(await reranker.rerank(QUERY, ["one"])) == 1


def test_names_are_known_repositories_or_described(tmp_path: Path) -> None:
    assert describe("ms-marco-MiniLM-L6-v2") is describe(KNOWN)
    assert describe("org/any") == CrossEncoder("org/any", repository="org/any")
    with pytest.raises(SettingsError, match="AI_STACK_RERANK_URL: unheard-of is not described"):
        describe("unheard-of")
    rerankers.describe(tmp_path, max_tokens=64, score="sigmoid")
    own = describe("tiny", tmp_path / "description.json")
    assert (own.max_tokens, own.score, own.folder) == (64, "sigmoid", str(tmp_path))


@pytest.mark.parametrize(
    "given",
    [
        b"{",
        b"[]",
        b'{"name": "a"}',
        b'{"folder": "/a"}',
        b'{"name": "a", "folder": "/a", "max_tokens": 2}',
        b'{"name": "a", "folder": "/a", "score": "softmax"}',
        b'{"name": "a", "folder": "/a", "files": "model.onnx"}',
        b'{"name": "a", "folder": 1}',
        b'{"name": "a", "folder": "/a", "setting": "x"}',
    ],
)
def test_a_wrong_description_names_its_setting(given: bytes, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_bytes(given)
    with pytest.raises(SettingsError, match="AI_STACK_RERANK_DESCRIPTION"):
        describe("a", tmp_path / "wrong.json")


async def test_the_child_explains_an_unknown_name() -> None:
    async with rerank_child() as url, rerankers.opened("cross-encoder:no", url) as reranker:
        with pytest.raises(SettingsError, match="AI_STACK_RERANK_URL"):
            await reranker.rerank(QUERY, ["one"])


def served_files() -> dict[str, bytes]:
    tokenizer = minilm(embedders.CACHE).tokenizer.read_bytes()
    return {f"{KNOWN}/onnx/model.onnx": rerankers.sharing(), f"{KNOWN}/tokenizer.json": tokenizer}


async def test_a_model_comes_from_the_hub_when_it_is_first_asked(tmp_path: Path) -> None:
    with hub.FakeHub(served_files()).serving() as served:
        variables = {"AI_STACK_HUB_URL": served.url, "AI_STACK_CONFIG_DIR": str(tmp_path)}
        async with embedders.child(cache=tmp_path, **variables) as (socket, _):
            url = f"onnx://{socket}"
            async with rerankers.opened(f"cross-encoder:{KNOWN}", url) as reranker:
                assert await reranker.rerank(QUERY, ["brake", "worn pads"]) == [1, 2]
                requests = len(served.requests)
                assert await reranker.rerank(QUERY, ["brake"]) == [1]
                assert len(served.requests) == requests
    assert (tmp_path / "hub" / f"{KNOWN}@main".replace("/", "--")).is_dir()


async def test_what_the_hub_did_not_announce_is_refused(tmp_path: Path) -> None:
    with hub.FakeHub(served_files(), lie=True).serving() as served:
        variables = {"AI_STACK_HUB_URL": served.url, "AI_STACK_CONFIG_DIR": str(tmp_path)}
        async with embedders.child(cache=tmp_path, **variables) as (socket, _):
            url = f"onnx://{socket}"
            async with rerankers.opened(f"cross-encoder:{KNOWN}", url) as reranker:
                for _ in range(2):
                    with pytest.raises(StackError, match="hash"):
                        await reranker.rerank(QUERY, ["brake"])
    assert len(served.downloads()) == 1  # the failure is told again, not tried at each search


async def test_meanwhile_it_is_told_that_the_model_is_loading(tmp_path: Path) -> None:
    variables = {"AI_STACK_HUB_URL": "http://127.0.0.1:9", "AI_STACK_CONFIG_DIR": str(tmp_path)}
    async with embedders.child(cache=tmp_path, **variables) as (socket, _):
        url = f"onnx://{socket}"
        async with (
            embedders.opened(url) as embedder,
            rerankers.opened(f"cross-encoder:{KNOWN}", url) as reranker,
        ):
            begin = time.monotonic()
            with pytest.raises(Unavailable, match="loading"):
                await reranker.rerank(QUERY, ["brake"])
            assert time.monotonic() - begin < 4
            await embedder.ping()


DOCUMENTS = {
    "one": "Pads and more pads and yet more pads for a car.",
    "two": "How to tell worn brakes by their noise.",
    "three": "Noise of all kinds.",
}
QUESTION = "worn brakes noise"


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    config = uvicorn.Config(create_app(settings), port=0, log_level="warning")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as opened:
            yield opened
    finally:
        server.should_exit = True
        await task


def with_reranker(settings: Settings, embedder_url: str, rerank_url: str | None) -> Settings:
    given = {"embedder_url": SecretStr(embedder_url), "rerank_url": rerank_url}
    return settings.model_copy(update={**given, "search_cache_ttl_s": 0})


async def found(client: httpx.AsyncClient, **body: object) -> dict[str, object]:
    answer = await client.post("/search/semantic", json={"query": QUESTION, **body})
    assert answer.status_code == 200, answer.text
    return orjson.loads(answer.content)


async def test_a_search_reranks_degrades_and_recovers(
    memory_settings: Settings, tmp_path: Path
) -> None:
    variables = rerankers.describe(tmp_path / "tiny")
    socket = tmp_path / "link.sock"
    settings = with_reranker(memory_settings, f"onnx://{socket}", "cross-encoder:tiny")
    async with gateway(settings) as client:
        async with embedders.child(**variables) as (first, _):
            socket.symlink_to(first)
            new = [{"id": key, "content": text} for key, text in DOCUMENTS.items()]
            assert (await client.post("/documents", json={"documents": new})).status_code == 201
            answer = await found(client, rerank=True)
            assert names(answer) == ["two", "three", "one"]
            assert [r["score"] for r in answer["results"]] == [3, 1, 0]
            assert answer.get("degraded") is None
            page = await found(client, rerank=True, limit=1, offset=1)
            assert names(page) == ["three"]
            few = await found(client, rerank=True, min_score=0.5)
            assert names(few) == ["two", "three"]
        by_words = await found(client, rerank=True, mode="keyword")
        assert by_words["degraded"] == NO_RERANK
        assert "two" in names(by_words)
        socket.unlink()
        async with embedders.child(**variables) as (second, _):
            socket.symlink_to(second)
            again = await found(client, rerank=True)
            assert names(again) == ["two", "three", "one"]
            assert again.get("degraded") is None


async def test_a_search_that_cannot_be_reranked_is_refused(
    memory_settings: Settings, tmp_path: Path
) -> None:
    settings = with_reranker(memory_settings, "memory:", "http://127.0.0.1:9/v1/rerank")
    vector = [1.0] + [0.0] * 383
    async with gateway(settings) as client:
        answer = await client.post("/search/semantic", json={"vector": vector, "rerank": True})
        assert (answer.status_code, answer.json()["detail"]) == (422, "rerank needs a query.")
    async with gateway(with_reranker(memory_settings, "memory:", None)) as client:
        answer = await client.post("/search/semantic", json={"query": "a", "rerank": True})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def names(answer: dict[str, object]) -> list[str]:
    return [result["document"]["id"] for result in answer["results"]]
