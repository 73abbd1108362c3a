"""Qdrant's engine in its child: killed, restarted, building, and searched all the while."""

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import psycopg
import pytest

import vectors as made
from ai_stack.database import Database
from ai_stack.errors import VectorsUnavailable
from ai_stack.models.filters import parse_filter
from ai_stack.vectors import Point, VectorQuery, Vectors, open_vectors
from ai_stack.vectors.edge_child import EdgeEngine
from ai_stack.vectors.pgvector import KNOWN_S

pytestmark = pytest.mark.alone

PROJECT = uuid.uuid4()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[made.Engine]:
    async with made.engine(tmp_path) as running:
        yield running


@pytest.fixture
async def vectors(engine: made.Engine) -> AsyncIterator[Vectors]:
    async with open_vectors(engine.url) as opened:
        yield opened


async def _count(vectors: Vectors, model: made.EmbeddingModel) -> int:
    return sum([len(batch) async for batch in vectors.scan(model)])


def _builder(engine: made.Engine) -> psutil.Process | None:
    assert engine.process is not None
    return next(iter(psutil.Process(engine.process.pid).children()), None)


async def _building(engine: made.Engine) -> psutil.Process:
    async with asyncio.timeout(30):
        while (builder := _builder(engine)) is None:
            await asyncio.sleep(0.02)
    return builder


async def test_what_an_upsert_has_returned_survives_a_kill(
    engine: made.Engine, vectors: Vectors
) -> None:
    model, points = made.model(), made.points(made.rows(3000), PROJECT)
    acknowledged = 0

    async def write() -> None:
        nonlocal acknowledged
        for i in range(0, 3000, 100):
            await vectors.upsert(model, points[i : i + 100])
            acknowledged += 100

    writing = asyncio.create_task(write())
    while acknowledged < 1000 and not writing.done():
        await asyncio.sleep(0.005)
    await engine.kill()
    with pytest.raises(VectorsUnavailable):
        await writing
    await engine.start()
    found = {c async for batch in vectors.scan(model) for c, _, _ in batch}
    assert {p.chunk_id for p in points[:acknowledged]} <= found


async def test_a_dead_engine_is_told_at_once_and_a_new_one_found(
    engine: made.Engine, vectors: Vectors
) -> None:
    model, points = made.model(), made.points(made.rows(10), PROJECT)
    await vectors.upsert(model, points)
    await engine.kill()
    started = time.perf_counter()
    for _ in range(3):
        with pytest.raises(VectorsUnavailable):
            await vectors.search(model, VectorQuery(PROJECT, points[0].vector, 5))
    with pytest.raises(VectorsUnavailable):
        await vectors.ping()
    assert time.perf_counter() - started < 1
    await engine.start()
    assert len(await vectors.search(model, VectorQuery(PROJECT, points[0].vector, 5))) == 5


async def test_a_stopped_engine_fails_a_ping_within_its_deadline(
    engine: made.Engine, vectors: Vectors
) -> None:
    assert engine.process is not None
    engine.process.send_signal(signal.SIGSTOP)
    try:
        started = time.perf_counter()
        with pytest.raises(VectorsUnavailable):
            await vectors.ping()
        assert time.perf_counter() - started < 2
    finally:
        engine.process.send_signal(signal.SIGCONT)
    await made.until_answering(vectors)


async def test_changes_during_a_build_are_in_what_it_swaps_in(
    engine: made.Engine, vectors: Vectors
) -> None:
    model, rows = made.model(), made.rows(6000)
    points = made.points(rows, PROJECT, [{"n": i} for i in range(6000)])
    await vectors.upsert(model, points)
    assert len(await _range(vectors, model)) == 10
    await _building(engine)
    await vectors.delete(model, PROJECT, [p.document_id for p in points[:50]])
    again = [made.Point(p.chunk_id, p.document_id, PROJECT, -rows[i], {"n": -1})
             for i, p in enumerate(points[50:60])]  # fmt: skip
    await vectors.upsert(model, again)
    async with asyncio.timeout(60):
        while _builder(engine) is not None:
            await vectors.search(model, VectorQuery(PROJECT, rows[0], 10))
            await asyncio.sleep(0.01)
    await asyncio.sleep(1)
    assert await _count(vectors, model) == 5950
    (hit,) = await vectors.search(model, VectorQuery(PROJECT, -rows[3], 1))
    assert hit.chunk_id == points[53].chunk_id
    assert hit.score == pytest.approx(1, abs=1e-3)
    assert not {p.chunk_id for p in points[:60]} & set(await _range(vectors, model, 100))
    await engine.kill()
    await engine.start()
    assert await _count(vectors, model) == 5950


async def test_a_kill_in_the_middle_of_a_build_loses_nothing(
    engine: made.Engine, vectors: Vectors
) -> None:
    model = made.model()
    await vectors.upsert(model, made.points(made.rows(5000), PROJECT))
    builder = await _building(engine)
    await engine.kill()
    async with asyncio.timeout(5):
        while builder.is_running() and builder.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)
    started = time.perf_counter()
    await engine.start()
    assert time.perf_counter() - started < 10
    assert await _count(vectors, model) == 5000
    folder = next(engine.data.iterdir())
    assert len(list(folder.glob("shard-*"))) <= 2


async def _range(vectors: Vectors, model: made.EmbeddingModel, limit: int = 10) -> list[uuid.UUID]:
    tree = parse_filter({"n": {"gte": 0, "lt": 100}})
    query = VectorQuery(PROJECT, made.rows(1, seed=8)[0], limit, tree)
    return [hit.chunk_id for hit in await vectors.search(model, query)]


async def test_leaves_in_order_when_asked(engine: made.Engine, vectors: Vectors) -> None:
    model = made.model()
    await vectors.upsert(model, made.points(made.rows(100), PROJECT))
    assert await engine.stop() == 0
    await engine.start()
    assert await _count(vectors, model) == 100


def _upsert(points: list[Point]) -> tuple[dict[str, object], bytes]:
    """An upsert as the channel hands it to the engine."""
    payloads = [{"p": str(p.project_id), "d": str(p.document_id)} for p in points]
    ids = [str(p.chunk_id) for p in points]
    rows = np.asarray([p.vector for p in points], "<f4").tobytes()
    return {"model": "m", "dimensions": 32, "ids": ids, "payloads": payloads}, rows


async def _points(folder: Path) -> int:
    """How many points an engine finds in its folder when it is started."""
    engine = EdgeEngine(folder)
    engine.open()
    answer, _ = await engine.scan({"model": "m", "after": None, "limit": 10_000}, b"")
    await engine.close()
    return len(answer["points"])


async def test_what_is_written_while_an_index_is_dropped_stays(tmp_path: Path) -> None:
    engine = EdgeEngine(tmp_path)
    engine.open()
    await engine.upsert(*_upsert(made.points(made.rows(3000), PROJECT)))
    dropping = asyncio.create_task(engine.drop({"model": "m"}, b""))
    await asyncio.sleep(0)
    await engine.upsert(*_upsert(made.points(made.rows(50), PROJECT)))
    await dropping
    await engine.close()
    assert await _points(tmp_path) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


async def test_an_index_that_cannot_be_read_can_be_written_anew(tmp_path: Path) -> None:
    for broken in (b"{", b'{"dimensions": 32}', b'{"shards": [], "fields": [], "colour": 1}'):
        engine = EdgeEngine(tmp_path)
        engine.open()
        await engine.upsert(*_upsert(made.points(made.rows(10), PROJECT)))
        await engine.close()
        assert await _points(tmp_path) == 10
        (tmp_path / "m" / "layout.json").write_bytes(broken)
        assert await _points(tmp_path) == 0


async def test_another_process_finds_a_model_that_was_dropped_and_built_again(
    database: Database, database_url: str
) -> None:
    model, points = made.model(), made.points(made.rows(5), PROJECT)
    asked = VectorQuery(PROJECT, points[0].vector, 3)
    async with (
        open_vectors("pgvector:", database=database) as gateway,
        open_vectors("pgvector:", database=database) as worker,
    ):
        with psycopg.connect(database_url, autocommit=True) as owner:
            made.store(owner, model, points)
            await worker.upsert(model, points)
            assert len(await gateway.search(model, asked)) == 3
            await worker.drop(model)
            owner.execute("SELECT tenant.drop_model(id) FROM tenant.models")
            made.store(owner, model, points)
            await worker.upsert(model, points)
        await asyncio.sleep(KNOWN_S)
        assert len(await gateway.search(model, asked)) == 3
        assert len(await worker.search(model, asked)) == 3


async def test_no_file_keeps_what_a_project_had_however_often_it_is_killed(
    engine: made.Engine, vectors: Vectors
) -> None:
    """Also not what was deleted before, one by one: engines keep it in their files."""
    model, other = made.model(), uuid.uuid4()
    word = "the long word xiphactinus of a field"
    mine = made.points(made.rows(2000), PROJECT, [{"word": word}] * 2000)
    await vectors.upsert(model, mine)
    await vectors.upsert(model, made.points(made.rows(2000, seed=1), other))
    await vectors.delete(model, PROJECT, [p.document_id for p in mine[:500]])
    assert _files_with(engine.data, word)
    erasing = asyncio.create_task(vectors.delete(model, PROJECT, None))
    await _building(engine)
    await engine.kill()
    with pytest.raises(VectorsUnavailable):
        await erasing
    await engine.start()
    await vectors.upsert(model, made.points(made.rows(10, seed=2), other))
    await vectors.delete(model, PROJECT, None)
    assert _files_with(engine.data, word) == []
    assert _files_with(engine.data, str(PROJECT)) == []
    assert await _count(vectors, model) == 2010
    await vectors.upsert(model, made.points(made.rows(10, seed=3), PROJECT))
    await vectors.delete(model, PROJECT, None)
    assert await _count(vectors, model) == 2010


async def test_the_last_project_of_an_index_leaves_nothing(
    engine: made.Engine, vectors: Vectors
) -> None:
    model = made.model()
    points = made.points(made.rows(50), PROJECT, [{"word": "x" * 40}] * 50)
    await vectors.upsert(model, points)
    await vectors.delete(model, PROJECT, None)
    assert _files_with(engine.data, "x" * 40) == []
    await vectors.upsert(model, points)
    assert await _count(vectors, model) == 50


def _files_with(folder: Path, word: str) -> list[str]:
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    ]
