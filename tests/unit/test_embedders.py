"""The embedders' policies: batches, queue, texts, descriptions, a server's moods."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_stack.embedders.backlog import Backlog, Job, Request
from ai_stack.embedders.batches import choose
from ai_stack.embedders.descriptions import KNOWN, describe
from ai_stack.embedders.memory import MemoryEmbedder
from ai_stack.embedders.openai import OpenAIEmbedder
from ai_stack.embedders.texts import pieces, readable
from ai_stack.errors import (
    EmbedderUnavailable,
    InvalidRequest,
    SettingsError,
    TooBusy,
)
from ai_stack.models.embedding import EmbeddingModel


@dataclass(frozen=True, slots=True)
class Text:
    length: int
    model: str = "a"


texts = st.lists(st.builds(Text, st.integers(2, 9), st.sampled_from("ab")), min_size=1)


@given(texts, st.integers(1, 64))
def test_a_batch_holds_the_oldest_within_the_budget(waiting: list[Text], budget: int) -> None:
    batch = choose(waiting, budget)
    assert batch[0].model == waiting[0].model
    assert waiting[0] in batch
    assert {text.model for text in batch} == {waiting[0].model}
    assert {text.length for text in batch} == {waiting[0].length}
    assert waiting[0].length * len(batch) <= budget or len(batch) == 1


def test_a_batch_takes_texts_of_one_length_in_order() -> None:
    waiting = [Text(50), Text(49), Text(50), Text(50, "b"), *[Text(50)] * 9]
    assert choose(waiting, 210) == [Text(50)] * 4


def jobs(count: int, length: int, model: str = "a") -> list[Job]:
    request = Request(count, 4)
    return [Job(request, index, model, [1] * length) for index in range(count)]


async def test_the_queue_is_bounded_but_takes_any_call_when_empty() -> None:
    backlog = Backlog(tokens=100, budget=256)
    backlog.put(jobs(30, 10))
    with pytest.raises(TooBusy):
        backlog.put(jobs(1, 1))
    assert len(backlog.take()) == 25
    assert backlog.tokens == 50
    backlog.put(jobs(5, 10))
    with pytest.raises(TooBusy):
        backlog.put(jobs(1, 1))


async def test_work_whose_caller_left_is_dropped() -> None:
    backlog = Backlog(tokens=10_000, budget=256)
    left, stayed = jobs(50, 10), jobs(2, 20)
    backlog.put(left)
    backlog.put(stayed)
    left[0].request.done.cancel()
    assert backlog.take() == stayed
    assert backlog.tokens == 0


async def test_room_is_counted_without_work_whose_caller_left() -> None:
    backlog = Backlog(tokens=100, budget=256)
    left = jobs(10, 10)
    backlog.put(left)
    left[0].request.done.cancel()
    backlog.put(jobs(10, 10))


async def test_a_request_is_done_with_its_last_row() -> None:
    request = Request(2, 3)
    request.fulfil(1, np.ones(3, np.float32))
    assert not request.done.done()
    request.fulfil(0, np.zeros(3, np.float32))
    assert (await request.done).tolist() == [[0, 0, 0], [1, 1, 1]]


@given(st.text(st.characters(), max_size=60).map(lambda text: text * 700))
def test_pieces_are_the_text(text: str) -> None:
    found = list(pieces(text))
    assert "".join(piece for _, piece in found) == text
    assert all(text[start : start + len(piece)] == piece for start, piece in found)
    assert all(piece[0].isspace() for start, piece in found if start)


def test_lone_surrogates_are_replaced_one_for_one() -> None:
    assert readable(["a\ud800b", "𝔘", "\udfff\ud800"]) == ["a\ufffdb", "𝔘", "\ufffd\ufffd"]


def test_too_much_text_at_once_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="48 MiB"):
        readable(["x" * (25 << 20)] * 2)


async def test_the_memory_twin_counts_words() -> None:
    embedder = MemoryEmbedder(dimensions=64, max_tokens=5)
    with pytest.raises(InvalidRequest, match="text 1 has 6 tokens"):
        await embedder.embed(["one two three", "one two three four"], "query")
    again = MemoryEmbedder(dimensions=64)
    assert (await again.embed(["same"], "query") == await embedder.embed(["same"], "query")).all()


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_known_models_are_found_by_name_and_repository(known: object) -> None:
    assert describe(known.name) is known  # type: ignore[attr-defined]
    assert known.repository is None or describe(known.repository) is known  # type: ignore[attr-defined]


GOOD = {"name": "own", "dimensions": 64, "max_tokens": 128, "passage_prefix": "p: "}


def test_a_file_describes_an_unknown_model(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({**GOOD, "pooling": "cls", "files": ["model.onnx"]}))
    model = describe("own", file).model("ab" * 32)
    assert (model.dimensions, model.pooling, model.prefixed("x", "passage")) == (64, "cls", "p: x")
    assert describe("gte-small", file).name == "gte-small"
    with pytest.raises(SettingsError, match="AI_STACK_EMBEDDING_MODEL: other"):
        describe("other", file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pooling": "sum"}, "pooling"),
        ({"dimensions": "64"}, "dimensions"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"maximum": 1}, "unknown field maximum"),
        ({"query_prefix": 1}, "text for every field"),
        ({"files": "model.onnx"}, "files"),
    ],
)
def test_a_wrong_description_is_named(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(SettingsError, match=reason):
        describe("own", file)


MODEL = EmbeddingModel("m", "00", 2, 64, query_prefix="query: ")
ROWS = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 0]}]}
Reply = Callable[[httpx.Request], httpx.Response]


def openai(*replies: httpx.Response) -> tuple[OpenAIEmbedder, list[dict[str, object]]]:
    """An embedder whose server gives these replies, and the bodies that it was sent."""
    left, sent = list(replies), []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content or b"{}"))
        return left.pop(0)

    transport = httpx.MockTransport(answer)
    client = httpx.AsyncClient(transport=transport, base_url="http://server/v1")
    return OpenAIEmbedder(client, MODEL, pause_s=0.001), sent


async def test_rows_come_back_in_order_normalised_and_prefixed() -> None:
    embedder, sent = openai(httpx.Response(200, json=ROWS))
    rows = await embedder.embed(["a", "b"], "query")
    assert rows.tolist() == [[1, 0], [0, 1]]
    assert sent[0]["input"] == ["query: a", "query: b"]


async def test_a_busy_server_is_asked_again() -> None:
    busy = [httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(503)]
    embedder, sent = openai(*busy, httpx.Response(200, json=ROWS))
    await embedder.embed(["a", "b"], "query")
    assert len(sent) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, TooBusy),
        (503, EmbedderUnavailable),
        (500, EmbedderUnavailable),
        (401, EmbedderUnavailable),
        (400, InvalidRequest),
    ],
)
async def test_a_refusal_is_translated(status: int, error: type[Exception]) -> None:
    embedder, sent = openai(*[httpx.Response(status, text="secret detail")] * 4)
    with pytest.raises(error) as raised:
        await embedder.embed(["a"], "query")
    assert "secret" not in str(raised.value)
    assert len(sent) == (4 if status in (429, 503) else 1)


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        '{"data": []}',
        '{"data": [{"index": 0, "embedding": [1, 2, 3]}]}',
        '{"data": [{"index": 0, "embedding": [0, 0]}]}',
        '{"data": [{"index": 0, "embedding": [1e999, 0]}]}',
        '{"data": [{"index": 0, "embedding": "AAAA"}]}',
        '{"data": [{"index": 0, "embedding": null}]}',
        '{"data": [{"embedding": [1, 2]}]}',
    ],
)
async def test_a_strange_answer_is_refused(body: str) -> None:
    embedder, _ = openai(httpx.Response(200, text=body))
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(["a"], "query")


async def test_dimensions_and_context_are_probed() -> None:
    models = {"data": [{"id": "m", "meta": {"n_ctx_train": 2048}}]}
    row = {"data": [{"index": 0, "embedding": [1, 2, 3]}]}
    embedder, _ = openai(httpx.Response(200, json=row), httpx.Response(200, json=models))
    model = await embedder.probed()
    assert (model.dimensions, model.max_tokens) == (3, 2048)


async def test_at_most_four_batches_are_asked_at_once() -> None:
    running, most = 0, 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        count = len(json.loads(request.content)["input"])
        data = [{"index": i, "embedding": [1, 0]} for i in range(count)]
        return httpx.Response(200, json={"data": data})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://server/v1")
    rows = await OpenAIEmbedder(client, MODEL).embed(["a"] * 700, "passage")
    assert rows.shape == (700, 2)
    assert most == 4
