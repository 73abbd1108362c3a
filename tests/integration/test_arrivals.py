"""Documents that bring their vectors, on a real PostgreSQL."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import psycopg
import pytest

from ai_stack.database import Database, changes, embedding_models
from ai_stack.errors import NotFound, VectorsUnavailable
from ai_stack.models.documents import NewDocument
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchRequest
from ai_stack.services.documents import Documents
from ai_stack.services.fsck import Fsck
from ai_stack.services.points import Points
from ai_stack.stack import Stack
from ai_stack.vectors import Point
from ai_stack.vectors.memory import MemoryVectors

ME = Principal()
WIDTH = 384
Happening = Callable[[], Awaitable[object]]


def placed(content: str, place: int, **more: object) -> NewDocument:
    return NewDocument(content, vector=np.eye(WIDTH)[place].tolist(), **more)


class Interrupted(MemoryVectors):
    """An index in which something happens before the first write arrives."""

    def __init__(self, vectors: MemoryVectors, happening: Happening) -> None:
        super().__init__(vectors.models)
        self.happenings = [happening]

    async def upsert(self, model: EmbeddingModel, points: Sequence[Point]) -> None:
        while self.happenings:
            await self.happenings.pop()()
        await super().upsert(model, points)


def interrupted(stack: Stack, happening: Happening) -> Documents:
    vectors = stack.indexing.vectors
    assert isinstance(vectors, MemoryVectors)
    slow = replace(stack.indexing, vectors=Interrupted(vectors, happening))
    return Documents(stack.database, slow)


async def nearest(stack: Stack, place: int) -> list[str]:
    vector = np.eye(WIDTH)[place].tolist()
    request = SearchRequest(vector=vector, mode="semantic", min_score=0.9)
    return [r.document.content for r in (await stack.search.search(request, ME)).results]


async def by_words(stack: Stack, words: str) -> list[str]:
    request = SearchRequest(words, mode="keyword")
    return [r.document.content for r in (await stack.search.search(request, ME)).results]


async def is_consistent(stack: Stack) -> bool:
    async def progress(done: int, total: int, message: str) -> None: ...

    database, models, indexing = stack.database, stack.models, stack.indexing
    points = Points(database, indexing.vectors, indexing)
    report = await Fsck(database, models, indexing, points).check(progress)
    return bool(report.json()["consistent"])


async def open_changes(database: Database, ids: Sequence[UUID]) -> dict[UUID, bool]:
    async with database.transaction(ME.project_id) as tx:
        return await changes.unfinished(tx, ids)


async def test_the_answer_is_what_is_stored(stack: Stack, database: Database) -> None:
    since = datetime(2020, 2, 2, tzinfo=UTC)
    new = [
        placed("Größe — 数 🦊 'quoted' \\ {braces}", 0, metadata={"b": [1, 2.5], "a": None}),
        placed("Second thing.", 1, key="k/1", created_at=since),
        placed("Third thing.", 2, created_at=since, updated_at=datetime.now(UTC)),
    ]
    written = await stack.documents.add(ME, new)
    assert written.settled
    assert [d.content for d in written.documents] == [n.content for n in new]
    assert [await stack.documents.get(ME, d.id) for d in written.documents] == written.documents
    assert await open_changes(database, [d.uuid for d in written.documents]) == {}
    assert await nearest(stack, 1) == ["Second thing."]
    assert await by_words(stack, "second") == ["Second thing."]
    assert await is_consistent(stack)


async def test_numbers_are_kept_as_half_floats_everywhere(stack: Stack) -> None:
    vector = np.random.default_rng(3).normal(0, 30, WIDTH).tolist()
    await stack.documents.add(ME, [NewDocument("Anywhere.", vector=vector, key="anywhere")])
    before = await found_points(stack, "anywhere")
    model = await stack.models.active()
    document = await stack.documents.get(ME, "anywhere")
    await stack.indexing.publish(ME.project_id, model, [document.uuid])
    after = await found_points(stack, "anywhere")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[i], after[i]) for i in before)


async def found_points(stack: Stack, key: str) -> dict[UUID, object]:
    vectors, document = stack.indexing.vectors, await stack.documents.get(ME, key)
    assert isinstance(vectors, MemoryVectors)
    points = vectors.models[(await stack.models.active()).model.key]
    return {
        p.chunk_id: np.array(row) for p, row in points.values() if p.document_id == document.uuid
    }


@pytest.mark.parametrize("change", ["delete", "patch", "put"])
async def test_a_change_before_the_index_is_written_wins(stack: Stack, change: str) -> None:
    async def happening() -> None:
        match change:
            case "delete":
                await stack.documents.delete(ME, change)
            case "patch":
                await stack.documents.patch(ME, change, {"content": "Patched instead."})
            case "put":
                await stack.documents.put(ME, change, placed("Put instead.", 11))

    new = [placed("Never seen.", 10, key=change), placed("Its neighbour.", 12)]
    with suppress(NotFound):  # which a deleted one is by the time of the answer
        await interrupted(stack, happening).add(ME, new)
    assert "Never seen." not in await nearest(stack, 10)
    assert await nearest(stack, 11) == (["Put instead."] if change == "put" else [])
    assert "Its neighbour." in await nearest(stack, 12)
    assert await is_consistent(stack)


async def test_without_the_index_they_are_stored_and_follow(
    stack: Stack, database_url: str
) -> None:
    async def happening() -> None:
        vectors.happenings.append(happening)
        raise VectorsUnavailable

    documents = interrupted(stack, happening)
    vectors = documents.indexing.vectors
    assert isinstance(vectors, Interrupted)
    written = await documents.add(ME, [placed("Kept for later.", 20, key="later")])
    assert not written.settled
    assert written.documents[0].state == "pending"
    assert await by_words(stack, "later") == ["Kept for later."]
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("UPDATE aidb.dirty SET due = now()")
    await stack.indexing.apply_due()
    assert await nearest(stack, 20) == ["Kept for later."]


async def test_a_model_that_is_being_built_gets_them_too(stack: Stack, database: Database) -> None:
    opened = await stack.models.named("memory-b")
    async with database.transaction(None) as tx:
        number = await embedding_models.add(tx, opened.model, "building")
    stack.models.forget()
    written = await stack.documents.add(ME, [placed("For both of them.", 30)])
    async with database.transaction(ME.project_id) as tx:
        rows = await tx.rows(
            "SELECT model_id FROM embeddings WHERE document_id = %(id)s",
            {"id": written.documents[0].uuid},
        )
    assert written.settled
    assert number in {row[0] for row in rows}
    assert len(rows) == 2


@pytest.mark.parametrize("width", [3, 400])
async def test_vectors_of_another_width_are_embedded_anew(stack: Stack, width: int) -> None:
    new = [NewDocument(f"Of width {width}.", vector=[1.0] * width), placed("Beside it.", 40)]
    written = await stack.documents.add(ME, new)
    assert written.settled
    assert (await by_words(stack, f"width {width}"))[0] == f"Of width {width}."
