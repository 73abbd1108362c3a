"""fsck finds each divergence that is planted, repairs it, and finds nothing after."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import UUID

import psycopg
import pytest

from ai_stack.caches.memory import MemoryCache
from ai_stack.database import Database
from ai_stack.database.embedding_models import StoredModel
from ai_stack.embedders.memory import MemoryEmbedder
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import DEFAULT_PROJECT, Principal
from ai_stack.services.documents import Documents
from ai_stack.services.embedding import Models
from ai_stack.services.fsck import Fsck
from ai_stack.services.index import Index
from ai_stack.services.indexing import Indexing
from ai_stack.services.points import Points
from ai_stack.services.renewals import Renewals
from ai_stack.vectors import Point
from ai_stack.vectors.memory import MemoryVectors

OTHER = UUID("00000000-0000-7000-8000-00000000000f")


@dataclass
class House:
    """A database with twelve documents in two projects, and an index in step with it."""

    database: Database
    vectors: MemoryVectors
    models: Models
    indexing: Indexing
    fsck: Fsck
    index: Index
    documents: list[UUID]
    model: StoredModel
    url: str

    def sql(self, text: str, *values: object) -> None:
        with psycopg.connect(self.url, autocommit=True) as owner:
            owner.execute(text, values)

    @property
    def points(self) -> dict:
        return self.vectors.models[self.model.model.key]

    async def found(self, *, repair: bool = False) -> dict[str, int]:
        report = await self.fsck.check(_quiet, repair=repair)
        return {kind: count for kind, count in report.found.items() if count}


async def _quiet(done: int, total: int, message: str) -> None:
    return None


async def _open(_: str | None) -> MemoryEmbedder:
    return MemoryEmbedder()


@pytest.fixture
async def house(database: Database, database_url: str) -> AsyncIterator[House]:
    vectors, cache, models = MemoryVectors(), MemoryCache(), Models(database, _open)
    indexing = Indexing(database, models, vectors, Renewals(cache))
    points = Points(database, vectors, indexing, bucket=5)
    fsck = Fsck(database, models, indexing, points)
    index = Index(database, models, vectors, indexing, fsck)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("DELETE FROM aidb.documents")
        owner.execute("DELETE FROM aidb.dirty")
        owner.execute(
            "INSERT INTO aidb.projects (id, name) VALUES (%s, 'o') ON CONFLICT DO NOTHING", [OTHER]
        )
    documents = Documents(database, indexing)
    made = []
    for project in (DEFAULT_PROJECT, OTHER):
        new = [NewDocument(f"# Page {n}\n\nIt tells of thing {n}.") for n in range(6)]
        made += (await documents.add(Principal(project), new)).documents
    uuids = [d.uuid for d in made]
    model = await models.active()
    yield House(database, vectors, models, indexing, fsck, index, uuids, model, database_url)


async def test_a_sound_house_is_consistent(house: House) -> None:
    report = await house.fsck.check(_quiet)
    assert report.json()["consistent"]
    assert report.checked["documents"] == 12
    assert report.checked["vectors"] == len(house.points) >= 12


async def _lose_chunks(house: House) -> None:
    house.sql("DELETE FROM aidb.chunks WHERE document_id = %s", house.documents[0])


async def _lose_vectors(house: House) -> None:
    house.sql("DELETE FROM aidb.embeddings WHERE document_id = %s", house.documents[0])


async def _change_content(house: House) -> None:
    house.sql("UPDATE aidb.documents SET content = 'other' WHERE id = %s", house.documents[7])


async def _cross(house: House) -> None:
    """A vector's document is another's than its chunk's."""
    house.sql(
        "UPDATE aidb.embeddings SET document_id = %s WHERE document_id = %s",
        *house.documents[:2],
    )


async def _lose_point(house: House) -> None:
    chunk = next(c for c, (p, _) in house.points.items() if p.document_id == house.documents[9])
    del house.points[chunk]


async def _lose_index(house: House) -> None:
    await house.vectors.drop(house.model.model)


async def _add_orphan(house: House) -> None:
    stray = Point(UUID(int=7), UUID(int=8), OTHER, [1.0] * 384, {})
    await house.vectors.upsert(house.model.model, [stray])


async def _add_old_chunk(house: House) -> None:
    """What a late writer leaves: a point of a chunk that its document had before."""
    stray = Point(UUID(int=9), house.documents[2], DEFAULT_PROJECT, [1.0] * 384, {})
    await house.vectors.upsert(house.model.model, [stray])


async def _move(house: House, project: UUID, document: UUID) -> None:
    point = next(p for p, _ in house.points.values() if p.document_id == house.documents[3])
    moved = Point(point.chunk_id, document, project, point.vector, {})
    await house.vectors.upsert(house.model.model, [moved])


async def _move_project(house: House) -> None:
    await _move(house, OTHER, house.documents[3])


async def _move_document(house: House) -> None:
    await _move(house, DEFAULT_PROJECT, house.documents[4])


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (_lose_chunks, {"unchunked": 1, "orphan": 1}),
        (_lose_vectors, {"unembedded": 1, "orphan": 1}),
        (_change_content, {"stale": 1}),
        (_cross, {"crossed": 1, "misplaced": 1}),
        (_lose_point, {"missing": 1}),
        (_lose_index, {"missing": 12}),
        (_add_orphan, {"orphan": 1}),
        (_add_old_chunk, {"orphan": 1}),
        (_move_project, {"misplaced": 1}),
        (_move_document, {"misplaced": 1}),
    ],
)
async def test_each_divergence_is_found_and_repaired(house: House, plant, expected) -> None:
    await plant(house)
    assert await house.found() == expected
    assert await house.found() == expected  # looking changes nothing
    repaired = await house.found(repair=True)
    assert repaired.keys() <= expected.keys()
    assert await house.found() == {}
    assert len(house.points) == 12
    for point, _ in house.points.values():
        assert point.document_id in house.documents


async def test_what_waits_for_the_index_is_in_order(house: House) -> None:
    house.sql(
        "INSERT INTO aidb.dirty (document_id, project_id) VALUES (%s, %s)",
        house.documents[0],
        DEFAULT_PROJECT,
    )
    await _lose_chunks(house)
    assert await house.found() == {}


async def test_a_change_under_way_is_no_divergence(house: House) -> None:
    """Between the two looks the suspect's point comes: what was suspected is dropped."""
    suspects = house.fsck.points._suspects
    await _lose_point(house)

    async def looked(model, number, buckets):
        found = await suspects(model, number, buckets)
        for fault in found:
            await house.indexing.publish(fault.project_id, model, [fault.document_id])
        return found

    late = Fsck(house.database, house.models, house.indexing, _Late(house.fsck.points, looked))
    report = await late.check(_quiet)
    assert report.json()["consistent"]


class _Late(Points):
    """Points whose suspicions are met before they are confirmed."""

    def __init__(self, points: Points, suspects) -> None:
        super().__init__(points.database, points.vectors, points.indexing, points.bucket)
        object.__setattr__(self, "_suspects", suspects)


@pytest.mark.parametrize("fresh", [False, True])
async def test_reindex_writes_everything_anew(house: House, fresh: bool) -> None:
    before = dict(house.points)
    await _lose_point(house)
    await _add_orphan(house)
    await _move_project(house)
    told: list[tuple[int, int]] = []

    async def progress(done: int, total: int, message: str) -> None:
        told.append((done, total))

    done = await house.index.rebuild(progress, fresh=fresh)
    assert done["documents"] == 12
    assert told[-1] == (12, 12)
    assert house.points.keys() == before.keys()
    assert await house.found() == {}


async def test_a_publisher_that_was_overtaken_corrects_itself(house: House) -> None:
    """While one writes an older state, another follows a later change of the document."""
    document, documents = house.documents[0], Documents(house.database, house.indexing)

    async def meanwhile() -> None:
        change = {"content": "# New\n\nAnother text."}
        await documents.patch(Principal(), str(document), change)

    slow = replace(house.indexing, vectors=_Slow(house.vectors, meanwhile))
    await slow.publish(DEFAULT_PROJECT, house.model, [document])
    assert await house.found() == {}


class _Slow(MemoryVectors):
    """An index in which something happens before the first write arrives."""

    def __init__(self, vectors: MemoryVectors, meanwhile) -> None:
        super().__init__(vectors.models)
        self.meanwhile = [meanwhile]

    async def upsert(self, model, points) -> None:
        while self.meanwhile:
            await self.meanwhile.pop()()
        await super().upsert(model, points)
