"""One suite over every vector index: exact filters, tenancy, recall, replacement, deletion."""

import asyncio
import os
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient

import vectors as made
from ai_stack.database import open_database
from ai_stack.errors import InvalidRequest
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.filters import Filter, matches, parse_filter
from ai_stack.vectors import Point, VectorQuery, Vectors, open_vectors
from ai_stack.vectors.qdrant import QdrantVectors

SERVER = os.environ.get("AI_STACK_TEST_QDRANT_URL")
Put = Callable[[EmbeddingModel, Sequence[Point]], Awaitable[None]]


@dataclass
class Backend:
    """An index under test; `put` also stores what the index is derived from, where it matters."""

    name: str
    vectors: Vectors
    put: Put
    model: EmbeddingModel


BACKENDS = ["memory", "edge", "pgvector", "local", *(["server"] if SERVER else [])]


@pytest.fixture(scope="module", params=BACKENDS)
async def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Backend]:
    if request.param == "pgvector":
        opened = _pgvector(request.getfixturevalue("database_url"))
    else:
        opened = globals()[f"_{request.param}"](tmp_path_factory.mktemp("v"))
    async for vectors, put in opened:
        yield Backend(request.param, vectors, put or vectors.upsert, made.model())


Opened = AsyncIterator[tuple[Vectors, Put | None]]


async def _memory(folder: Path) -> Opened:
    async with open_vectors("memory:") as vectors:
        yield vectors, None


async def _edge(folder: Path) -> Opened:
    async with made.engine(folder) as engine, open_vectors(engine.url) as vectors:
        yield vectors, None


async def _local(folder: Path) -> Opened:
    """The server's client on its own local engine, which stands in where no server is."""
    client = AsyncQdrantClient(":memory:")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that payload indexes have no effect in local mode
        yield QdrantVectors(client), None
    await client.close()


async def _server(folder: Path) -> Opened:
    async with open_vectors(str(SERVER)) as vectors:
        yield vectors, None


async def _pgvector(database_url: str) -> Opened:
    database = await open_database(database_url)
    with psycopg.connect(database_url, autocommit=True) as owner:

        async def put(model: EmbeddingModel, points: Sequence[Point]) -> None:
            made.store(owner, model, points)
            await vectors.upsert(model, points)

        async with open_vectors("pgvector:", database=database) as vectors:
            yield vectors, put
    await database.aclose()


async def _found(
    backend: Backend, project: uuid.UUID, tree: Filter | None = None, limit: int = 100
) -> list[uuid.UUID]:
    query = VectorQuery(project, made.rows(1, seed=9)[0], limit, tree)
    return [hit.chunk_id for hit in await backend.vectors.search(backend.model, query)]


async def test_finds_the_nearest_best_first_with_their_cosine(backend: Backend) -> None:
    project, stored, asked = uuid.uuid4(), made.rows(2000), made.rows(50, seed=1)
    points = made.points(stored, project)
    await backend.put(backend.model, points)
    hits = 0
    for row in asked:
        scores = stored @ row
        best = set(np.argsort(-scores)[:10].tolist())
        found = await backend.vectors.search(backend.model, VectorQuery(project, row, 10))
        assert len(found) == 10
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        by_chunk = {p.chunk_id: i for i, p in enumerate(points)}
        numbers = [by_chunk[h.chunk_id] for h in found]
        assert np.allclose([h.score for h in found], scores[numbers], atol=2e-3)
        assert [h.document_id for h in found] == [points[i].document_id for i in numbers]
        hits += len(best & set(numbers))
    assert hits / 500 >= 0.98


async def test_a_search_sees_its_own_project_only(backend: Backend) -> None:
    mine, other = uuid.uuid4(), uuid.uuid4()
    stored = made.rows(40, seed=2)
    metadata = [{"a": 1}] * 40
    await backend.put(backend.model, made.points(stored[:20], mine, metadata))
    await backend.put(backend.model, made.points(stored[20:], other, metadata))
    for raw in (None, {"a": 1}, {"not": {"a": 2}}, {"or": [{"a": 1}, {"b": None}]}, {"b": None}):
        found = {mine: set(), other: set()}
        for project, ids in found.items():
            ids.update(await _found(backend, project, parse_filter(raw)))
        assert len(found[mine]) == len(found[other]) == 20
        assert not found[mine] & found[other]
    assert await _found(backend, uuid.uuid4(), parse_filter({"not": {"a": 2}})) == []


async def test_an_upsert_replaces_the_point(backend: Backend) -> None:
    project, (first, second) = uuid.uuid4(), made.rows(2, seed=3)
    (point,) = made.points(first[None], project, [{"v": 1}])
    await backend.put(backend.model, [point])
    again = Point(point.chunk_id, point.document_id, project, second, {"v": 2})
    await backend.put(backend.model, [again])
    (hit,) = await backend.vectors.search(backend.model, VectorQuery(project, second, 10))
    assert hit.chunk_id == point.chunk_id
    assert hit.score == pytest.approx(1, abs=2e-3)
    assert await _found(backend, project, parse_filter({"v": 1})) == []


async def test_a_delete_spares_what_is_to_be_kept(backend: Backend) -> None:
    project = uuid.uuid4()
    points = made.points(made.rows(12, seed=4), project, chunks=4)
    await backend.put(backend.model, points)
    gone, kept = [points[0].document_id, points[4].document_id], [points[1].chunk_id]
    await backend.vectors.delete(backend.model, uuid.uuid4(), gone)
    assert len(await _found(backend, project)) == 12
    await backend.vectors.delete(backend.model, project, gone, kept)
    expected = {*kept, *(p.chunk_id for p in points[8:])}
    assert set(await _found(backend, project)) == expected


async def test_a_scan_sees_every_point_once(backend: Backend) -> None:
    model = made.model()
    points = made.points(made.rows(2500, seed=5), uuid.uuid4(), chunks=3)
    assert await backend.vectors.count(model) == 0
    await backend.put(model, points)
    assert await backend.vectors.count(model) == 2500
    seen = [ids async for batch in backend.vectors.scan(model) for ids in batch]
    assert len(seen) == 2500
    assert set(seen) == {(p.chunk_id, p.document_id, p.project_id) for p in points}


async def test_a_dropped_model_can_begin_again(backend: Backend) -> None:
    """All that is derived is gone; pgvector's points are the truth, which a drop spares."""
    model, project, (row,) = made.model(), uuid.uuid4(), made.rows(1)
    left = 3 if backend.name == "pgvector" else 0
    assert await backend.vectors.search(model, VectorQuery(project, row, 3)) == []
    await backend.vectors.drop(model)
    points = made.points(made.rows(5), project)
    await backend.put(model, points)
    await backend.vectors.drop(model)
    assert len(await backend.vectors.search(model, VectorQuery(project, row, 3))) == left
    await backend.put(model, points)
    assert len(await backend.vectors.search(model, VectorQuery(project, row, 3))) == 3


@pytest.mark.parametrize("vector", [[float("nan")] * 32, [0.0] * 32, [1.0] * 31, [1e39] * 32, []])
async def test_refuses_vectors_that_mean_nothing(backend: Backend, vector: list[float]) -> None:
    point = Point(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), vector, {})
    with pytest.raises(InvalidRequest):
        await backend.vectors.upsert(backend.model, [point])
    with pytest.raises(InvalidRequest):
        await backend.vectors.search(backend.model, VectorQuery(uuid.uuid4(), vector, 3))


async def test_writers_and_searches_together(backend: Backend) -> None:
    project = uuid.uuid4()
    points = made.points(made.rows(600, seed=6), project, chunks=2)

    async def write(batch: Sequence[Point]) -> None:
        await backend.put(backend.model, batch)
        ids = {p.document_id for p in batch[:10]}
        await backend.vectors.delete(backend.model, project, ids)

    async def read() -> None:
        for _ in range(20):
            assert len(await _found(backend, project, limit=50)) <= 50

    await asyncio.gather(*(write(points[i : i + 50]) for i in range(0, 600, 50)), read(), read())
    deleted = {p.chunk_id for i in range(0, 600, 50) for p in points[i : i + 10]}
    expected = {p.chunk_id for p in points} - deleted
    assert set(await _found(backend, project, limit=1000)) == expected


LONG = "2024-01-15T10:00:00.0000"  # as long as the engine's exact part
NAMES = st.sampled_from(["a", "b", "é", "x y", "a-b", '"', "$", "[0]", "t", "n", "ſ😀"])
NUMBERS = st.sampled_from(
    [0, 1, 1.0, -1, 0.5, -0.0, 0.1 + 0.2, 2**53, 2**53 + 1, 2.0**53, -(2**53) - 1, 10**20, 1e300]
) | st.integers(-3, 3)
TEXTS = st.sampled_from(
    ["", "a", "b", "é", "z", "1", "true", "null", "2024-01-15", "2024-01-15T09", "😀", "\uffff"]
)
TEXTS |= st.sampled_from(
    [LONG, LONG + "a", LONG + "b", LONG + "bb", LONG[:-1], "long" * 20, '"', "'", "\\", "%s"]
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
METADATA = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=2).map(".".join)
OPERATIONS = st.one_of(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("gt", "gte", "lt", "lte"), NUMBERS)),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("gt", "gte", "lt", "lte"), TEXTS)),
    st.fixed_dictionaries({"in": st.lists(SCALARS, max_size=3)}),
    st.fixed_dictionaries({"contains": SCALARS}),
).filter(bool)
TERMS = st.dictionaries(PATHS, SCALARS | OPERATIONS, min_size=1, max_size=2)
FILTERS = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda terms: {"and": terms}),
        st.lists(inner, min_size=1, max_size=3).map(lambda terms: {"or": terms}),
        inner.map(lambda term: {"not": term}),
    ),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    metadata=st.lists(METADATA, min_size=1, max_size=6),
    filters=st.lists(FILTERS, min_size=1, max_size=6),
)
async def test_filters_answer_as_the_language_means(
    backend: Backend, metadata: list[dict[str, object]], filters: list[dict[str, object]]
) -> None:
    project = uuid.uuid4()
    points = made.points(made.rows(len(metadata), seed=7), project, metadata)
    await backend.put(backend.model, points)
    for raw in filters:
        tree = parse_filter(raw)
        assert tree is not None
        expected = {p.chunk_id for p in points if matches(tree, p.metadata)}
        assert set(await _found(backend, project, tree)) == expected, raw
        some = await _found(backend, project, tree, limit=2)
        assert len(some) == min(2, len(expected))
        assert set(some) <= expected


async def test_a_projects_points_go_together_and_no_others(backend: Backend) -> None:
    mine, theirs = uuid.uuid4(), uuid.uuid4()
    for project in (mine, theirs):
        await backend.put(backend.model, made.points(made.rows(40), project))
    for _ in range(2):
        await backend.vectors.delete(backend.model, mine, None)
    assert await _found(backend, mine) == []
    assert len(await _found(backend, theirs)) == 40
    await backend.vectors.delete(made.model(name="never"), mine, None)
