"""What the tests of vector indexes share: a model, points around centres, and a real engine."""

import asyncio
import contextlib
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.types.json import Jsonb

from ai_stack.models.embedding import EmbeddingModel
from ai_stack.vectors import Point, Vectors, open_vectors

PROJECT = "INSERT INTO aidb.projects (id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
DOCUMENT = (
    "INSERT INTO aidb.documents (id, project_id, content, metadata) VALUES (%s, %s, '', %s)"
    " ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata"
)
CHUNK = (
    "INSERT INTO aidb.chunks (id, project_id, document_id, content_version, ordinal, start_at,"
    " end_at, text, words)"
    " VALUES (%s, %s, %s, 1, 0, 0, 0, '', '') ON CONFLICT (id) DO NOTHING"
)
EMBEDDING = (
    "INSERT INTO aidb.embeddings (model_id, chunk_id, project_id, document_id, vector)"
    " VALUES (%s, %s, %s, %s, %s::halfvec)"
    " ON CONFLICT (chunk_id, model_id) DO UPDATE SET vector = excluded.vector"
)
Rows = npt.NDArray[np.float32]


def model(dimensions: int = 32, name: str = "test") -> EmbeddingModel:
    return EmbeddingModel(name, uuid.uuid4().hex * 2, dimensions, 256)


def rows(count: int, dimensions: int = 32, seed: int = 0, centres: int = 20) -> Rows:
    """Unit vectors around centres, so that neighbours mean something."""
    random = np.random.default_rng(seed)
    middle = random.normal(size=(centres, dimensions)) / np.sqrt(dimensions)
    noise = random.normal(size=(count, dimensions)) * 0.6 / np.sqrt(dimensions)
    made = middle[random.integers(0, centres, count)] + noise
    unit: Rows = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return unit


def points(
    vectors: Rows,
    project_id: uuid.UUID,
    metadata: Sequence[Mapping[str, object]] = (),
    chunks: int = 1,
) -> list[Point]:
    """A point for each row; `chunks` of them in a row share a document."""
    documents = [uuid.uuid4() for _ in range(0, len(vectors), chunks)]
    return [
        Point(
            uuid.uuid4(),
            documents[i // chunks],
            project_id,
            row,
            metadata[i] if metadata else {},  # type: ignore[arg-type]
        )
        for i, row in enumerate(vectors)
    ]


def store(owner: psycopg.Connection, model: EmbeddingModel, points: Sequence[Point]) -> None:
    """Write what the indexing service would have written before it calls the index."""
    with owner.transaction(), owner.cursor() as cursor:
        cursor.execute(
            "SELECT tenant.add_model(%s, %s, %s, %s, %s, 'retired')",
            [model.key, model.name, model.weights, model.dimensions, Jsonb(asdict(model))],
        )
        number = cursor.fetchone()[0]  # type: ignore[index]
        for project in {p.project_id for p in points}:
            cursor.execute(PROJECT, [project, str(project)])
        documents = {p.document_id: p for p in points}
        cursor.executemany(
            DOCUMENT,
            [(d, p.project_id, Jsonb(dict(p.metadata))) for d, p in documents.items()],
        )
        cursor.executemany(CHUNK, [(p.chunk_id, p.project_id, p.document_id) for p in points])
        cursor.executemany(
            EMBEDDING,
            [
                (number, p.chunk_id, p.project_id, p.document_id, str(list(map(float, p.vector))))
                for p in points
            ],
        )


class Engine:
    """A real edge child on a socket, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket, self.data = folder / "v.sock", folder / "data"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ai_stack.vectors.edge_child"),
            *("--socket", str(self.socket), "--data", str(self.data)),
        )
        async with open_vectors(self.url) as vectors:
            await until_answering(vectors)

    @property
    def url(self) -> str:
        return f"qdrant-edge://{self.socket}"

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return await self.process.wait()


async def until_answering(vectors: Vectors, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            with contextlib.suppress(Exception):
                return await vectors.ping()
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Engine]:
    running = Engine(folder)
    await running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.returncode is None:
            await running.stop()
