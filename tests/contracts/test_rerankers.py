"""What every reranker does, over an HTTP server and a real cross-encoder in the real child."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import numpy as np
import pytest

import embedders
import rerankers
from ai_stack.errors import SettingsError, Unavailable
from ai_stack.rerankers import Reranker, open_reranker

QUERY = "worn brake pads"
PASSAGES = [
    "taxes are due in april",
    "replace worn brake pads on both sides",
    "the brake is on the left",
    "worn pads and tyres",
]


@pytest.fixture(scope="module", params=["remote", "cross-encoder"])
async def reranker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Reranker]:
    if request.param == "remote":
        server = rerankers.RerankServer()
        async with server.serving() as url, rerankers.opened(url) as opened:
            yield opened
    else:
        variables = rerankers.describe(tmp_path_factory.mktemp("tiny"))
        async with (
            embedders.child(**variables) as (socket, _),
            rerankers.opened("cross-encoder:tiny", f"onnx://{socket}") as opened,
        ):
            yield opened


async def test_a_score_for_each_passage_in_their_order(reranker: Reranker) -> None:
    assert list(await reranker.rerank(QUERY, PASSAGES)) == [0, 3, 1, 2]


async def test_no_passages_give_no_scores(reranker: Reranker) -> None:
    assert list(await reranker.rerank(QUERY, [])) == []


async def test_the_query_and_the_passage_are_told_apart(reranker: Reranker) -> None:
    assert list(await reranker.rerank("brake brake brake", ["brake"])) == [3]
    assert list(await reranker.rerank("brake", ["brake brake brake"])) == [1]


async def test_a_score_is_the_same_whatever_stands_beside_it(reranker: Reranker) -> None:
    passages = [f"{PASSAGES[n % 4]} {'again ' * (n % 13)}" for n in range(120)]
    together = await reranker.rerank(QUERY, passages)
    alone = [(await reranker.rerank(QUERY, [one]))[0] for one in passages]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert list(together) == [[0, 3, 1, 2][n % 4] for n in range(120)]


async def test_many_calls_at_once_do_not_mix(reranker: Reranker) -> None:
    calls = [reranker.rerank(QUERY, PASSAGES[n % 4 :]) for n in range(40)]
    found = await asyncio.gather(*calls)
    assert [list(scores) for scores in found] == [[0, 3, 1, 2][n % 4 :] for n in range(40)]


async def test_a_cancelled_call_leaves_others_alone(reranker: Reranker) -> None:
    call = asyncio.create_task(reranker.rerank(QUERY, PASSAGES * 50))
    await asyncio.sleep(0)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    assert list(await reranker.rerank(QUERY, PASSAGES)) == [0, 3, 1, 2]


@pytest.mark.parametrize("text", ["", " ", "\0", "\ud800", "x\udfff\ud800y", "日本", "\n" * 50])
async def test_odd_texts_have_a_score(reranker: Reranker, text: str) -> None:
    assert np.isfinite(await reranker.rerank(QUERY, [text])).all()
    assert np.isfinite(await reranker.rerank(text, PASSAGES)).all()


async def test_a_passage_of_a_megabyte_is_scored_by_its_beginning(reranker: Reranker) -> None:
    assert list(await reranker.rerank("brake", ["brake " + "and so on " * 100_000])) == [1]


@pytest.mark.parametrize(
    "urls",
    [
        ("http://127.0.0.1:9/v1/rerank", "memory:"),
        ("cross-encoder:tiny", "onnx:///nowhere/embedder.sock"),
    ],
)
async def test_one_that_is_down_says_so(urls: tuple[str, str]) -> None:
    async with rerankers.opened(*urls) as reranker:
        with pytest.raises(Unavailable):
            await reranker.rerank(QUERY, PASSAGES)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {}),
        (200, {"results": [{"index": 0, "relevance_score": 1}]}),
        (200, {"results": [{"index": i, "relevance_score": "nan"} for i in range(4)]}),
        (200, {"results": None}),
        (200, []),
    ],
)
async def test_a_server_that_talks_nonsense_is_down(status: int, body: object) -> None:
    server = rerankers.RerankServer(embedders.reply(status, body))
    async with server.serving() as url, rerankers.opened(url) as reranker:
        with pytest.raises(Unavailable):
            await reranker.rerank(QUERY, PASSAGES)


@pytest.mark.parametrize(
    ("rerank_url", "embedder_url"),
    [
        ("ftp://host", "memory:"),
        ("cross-encoder:", "onnx:///run/embedder.sock"),
        ("cross-encoder:tiny", "http://127.0.0.1:9/v1"),
        ("cross-encoder:tiny", "onnx:"),
    ],
)
async def test_a_url_that_cannot_work_is_refused(rerank_url: str, embedder_url: str) -> None:
    with pytest.raises(SettingsError, match="AI_STACK_RERANK_URL"):
        open_reranker(embedders.settings(embedder_url, rerank_url=rerank_url))


async def test_there_is_none_where_none_is_set() -> None:
    assert open_reranker(embedders.settings("memory:")) is None
