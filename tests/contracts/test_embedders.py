"""What every embedder does, over the memory twin, the real child and an HTTP server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import numpy as np
import pytest

import embedders
from ai_stack.embedders import Embedder, open_embedder
from ai_stack.embedders.memory import MemoryEmbedder
from ai_stack.errors import InvalidRequest, SettingsError

PARAGRAPH = "Open a file and read its lines. The file is closed when the block ends. "


@pytest.fixture(scope="module", params=["memory", "onnx", "openai"])
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embedder]:
    if request.param == "memory":
        async with embedders.opened("memory:") as opened:
            yield opened
    elif request.param == "onnx":
        async with embedders.child() as (socket, _), embedders.opened(f"onnx://{socket}") as opened:
            yield opened
    else:
        server = embedders.EmbeddingServer(MemoryEmbedder(name=embedders.MINILM))
        async with server.serving() as url, embedders.opened(url) as opened:
            yield opened


async def test_rows_are_normalised_and_of_the_model_s_width(embedder: Embedder) -> None:
    rows = await embedder.embed(["one", "two words", PARAGRAPH], "passage")
    assert rows.shape == (3, embedder.model.dimensions)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


async def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert (await embedder.embed([], "query")).shape == (0, embedder.model.dimensions)
    assert list(await embedder.spans([])) == []


async def test_likeness_follows_meaning(embedder: Embedder) -> None:
    query = await embedder.embed(["how do I open a file and read lines?"], "query")
    passages = await embedder.embed(["Taxes are due in April.", PARAGRAPH], "passage")
    unlike, like = (query @ passages.T)[0]
    assert like > unlike + 0.2


async def test_a_text_has_one_vector_whatever_stands_beside_it(embedder: Embedder) -> None:
    texts = [PARAGRAPH * n for n in (1, 3, 8)] + [f"short text {i}" for i in range(90)]
    together = await embedder.embed(texts, "passage")
    alone = np.concatenate([await embedder.embed([text], "passage") for text in texts])
    assert (together * alone).sum(axis=1).min() > 0.98


async def test_many_calls_at_once_do_not_mix(embedder: Embedder) -> None:
    texts = [f"this is text number {n} of the {'set ' * (n % 7)}" for n in range(60)]
    alone = await embedder.embed(texts, "query")
    kinds = ("query", "passage")
    calls = [embedder.embed([text], kinds[n % 2]) for n, text in enumerate(texts)]
    found = np.concatenate(await asyncio.gather(*calls))
    assert ((found @ alone.T).argmax(axis=1) == np.arange(60)).all()


async def test_spans_cover_the_text_in_code_points(embedder: Embedder) -> None:
    text = "Ünïcode 𝔘 and 日本 stay, where they were."
    (spans,) = await embedder.spans([text])
    assert spans.dtype == np.int32
    assert spans.shape[1] == 2
    assert text[spans[0, 0]] == "Ü"
    assert text[spans[-1, 0] : spans[-1, 1]] == "."
    assert (spans[:, 0] < spans[:, 1]).all()
    assert (spans[1:, 0] >= spans[:-1, 1]).all()
    covered = {place for start, end in spans for place in range(start, end)}
    assert {n for n, sign in enumerate(text) if sign.isalnum() and sign != "𝔘"} <= covered


async def test_spans_of_a_long_text_are_those_of_its_parts(embedder: Embedder) -> None:
    long = PARAGRAPH * 2000
    part, whole, empty = await embedder.spans([PARAGRAPH, long, ""])
    assert len(whole) == 2000 * len(part)
    assert whole[-1, 1] == len(long) - 1
    assert empty.shape == (0, 2)


async def test_a_text_that_is_too_long_is_named_with_its_length(embedder: Embedder) -> None:
    texts = ["short"] * 40 + ["word " * 400]
    with pytest.raises(InvalidRequest, match=r"256 tokens: text 40 has \d+ tokens"):
        await embedder.embed(texts, "passage")


async def test_texts_within_the_limit_by_their_spans_are_taken(embedder: Embedder) -> None:
    text = PARAGRAPH * 30
    (spans,) = await embedder.spans([text])
    end = spans[embedder.model.max_tokens - 3, 1]
    assert (await embedder.embed([text[:end]], "passage")).shape[0] == 1


@pytest.mark.parametrize("text", ["", " ", "\0", "a\0b", "\ud800", "x\udfff\ud800y", "\n" * 50])
async def test_odd_texts_have_a_vector(embedder: Embedder, text: str) -> None:
    (row,) = await embedder.embed([text], "passage")
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
    (spans,) = await embedder.spans([text])
    assert spans.max(initial=0) <= len(text)


async def test_a_word_of_a_megabyte_is_answered(embedder: Embedder) -> None:
    word = "x" * (1 << 20)
    (spans,) = await embedder.spans([word])
    assert spans[-1, 1] == len(word)
    if len(spans) + 2 > embedder.model.max_tokens:
        with pytest.raises(InvalidRequest):
            await embedder.embed([word], "passage")
    else:
        assert (await embedder.embed([word], "passage")).shape[0] == 1


async def test_a_cancelled_call_leaves_others_alone(embedder: Embedder) -> None:
    call = asyncio.create_task(embedder.embed([PARAGRAPH] * 64, "passage"))
    await asyncio.sleep(0)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    assert (await embedder.embed(["still here"], "query")).shape[0] == 1


async def test_it_answers_a_ping(embedder: Embedder) -> None:
    await embedder.ping()


async def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(SettingsError, match="AI_STACK_EMBEDDER_URL"):
        await open_embedder(embedders.settings("ftp://host"))
