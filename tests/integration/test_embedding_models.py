"""Another embedding model is built beside the one that answers, takes its place, and goes back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import psycopg
import pytest

from ai_stack.caches.memory import MemoryCache
from ai_stack.database import Database
from ai_stack.embedders.memory import MemoryEmbedder
from ai_stack.errors import Conflict, NotFound
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchRequest
from ai_stack.services.documents import Documents
from ai_stack.services.embedding import Models
from ai_stack.services.embedding_models import EmbeddingModels
from ai_stack.services.fsck import Fsck
from ai_stack.services.indexing import Indexing
from ai_stack.services.points import Points
from ai_stack.services.renewals import Renewals
from ai_stack.services.search import Search
from ai_stack.vectors.memory import MemoryVectors

ME = Principal()
DIMENSIONS = {"small": 64, "large": 96, "third": 32}


@dataclass
class House:
    """One process: its services over a shared database and index."""

    database: Database
    vectors: MemoryVectors
    cache: MemoryCache
    configured: str = "small"
    told: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.models = Models(self.database, self._open)
        self.indexing = Indexing(self.database, self.models, self.vectors, Renewals(self.cache))
        self.documents = Documents(self.database, self.indexing)
        points = Points(self.database, self.vectors, self.indexing)
        self.fsck = Fsck(self.database, self.models, self.indexing, points)
        self.embeddings = EmbeddingModels(
            self.database, self.models, self.vectors, self.indexing, self.fsck, settle_s=0.01
        )
        self.search = Search(
            self.database, self.models, self.vectors, self.cache, None, 0.15, ttl_s=60
        )

    async def _open(self, name: str | None) -> MemoryEmbedder:
        name = name or self.configured
        return MemoryEmbedder(DIMENSIONS[name], name=name)

    async def progress(self, done: int, total: int, message: str) -> None:
        self.told.append((done, total))

    async def finds(self, query: str) -> str:
        request = SearchRequest(query, mode="semantic", limit=1)
        answer = await self.search.search(request, ME)
        assert answer.degraded is None
        return answer.results[0].document.content

    async def states(self) -> dict[str, str]:
        found = await self.embeddings.all()
        assert all(m.embedded == m.chunks for m in found)
        return {m.stored.model.name: m.stored.state for m in found}

    async def is_consistent(self) -> bool:
        self.models.forget()
        report = await self.fsck.check(self.progress)
        return bool(report.json()["consistent"])


@pytest.fixture
async def house(database: Database, database_url: str) -> AsyncIterator[House]:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("DELETE FROM aidb.documents")
        owner.execute("DELETE FROM aidb.dirty")
        owner.execute("UPDATE aidb.models SET state = 'retired'")
        for (id,) in owner.execute("SELECT id FROM aidb.models").fetchall():
            owner.execute("SELECT tenant.drop_model(%s)", [id])
    made = House(database, MemoryVectors(), MemoryCache())
    new = [NewDocument(f"The {word} stands here alone.") for word in WORDS]
    await made.documents.add(ME, new)
    yield made


WORDS = ("apple", "bridge", "candle", "dragon", "engine", "forest")


async def test_a_migration_switches_and_goes_back(house: House) -> None:
    assert await house.embeddings.pending() is None
    done = await house.embeddings.migrate("large", house.progress)
    assert done["embedded"] == len(WORDS)
    assert house.told[-1] == (len(WORDS), len(WORDS))
    assert await house.states() == {"small": "previous", "large": "active"}
    assert (await house.models.active()).model.dimensions == 96
    assert await house.finds("dragon") == "The dragon stands here alone."
    await house.documents.add(ME, [NewDocument("The guitar stands here too.")])
    assert await house.states() == {"small": "previous", "large": "active"}
    await house.embeddings.back()
    assert await house.states() == {"small": "active", "large": "previous"}
    assert await house.finds("guitar") == "The guitar stands here too."
    assert await house.is_consistent()


async def test_searches_answer_and_changes_are_kept_in_step_meanwhile(house: House) -> None:
    """Another process, which learns of the models late, writes while the migration runs."""
    other = House(house.database, house.vectors, house.cache)
    stop, searches = asyncio.Event(), 0

    async def live() -> None:
        nonlocal searches
        while not stop.is_set():
            assert await other.finds("engine") == "The engine stands here alone."
            await other.documents.add(ME, [NewDocument(f"Number {searches} stands here.")])
            searches += 1

    living = asyncio.create_task(live())
    patient = replace(house.embeddings, settle_s=3.0)
    await patient.migrate("large", house.progress)
    stop.set()
    await living
    assert searches > 5
    assert await house.states() == {"small": "previous", "large": "active"}
    assert await house.is_consistent()


async def test_a_broken_migration_goes_on_where_it_stopped(house: House) -> None:
    class Broken(Exception):
        pass

    async def breaks(done: int, total: int, message: str) -> None:
        raise Broken

    with pytest.raises(Broken):
        await house.embeddings.migrate("large", breaks)
    building = {m.stored.model.name: m.stored.state for m in await house.embeddings.all()}
    assert building == {"small": "active", "large": "building"}
    assert await house.embeddings.pending() is None
    done = await house.embeddings.migrate("large", house.progress)
    assert done["embedded"] == 0  # one batch had been embedded, and that was all
    assert await house.states() == {"small": "previous", "large": "active"}


async def test_a_configured_model_is_pending_until_it_was_built_once(house: House) -> None:
    changed = House(house.database, house.vectors, house.cache, configured="large")
    assert await changed.embeddings.pending() == "large"
    await changed.embeddings.migrate("large", changed.progress, switch=False)
    assert await changed.embeddings.pending() is None  # complete, to be switched by hand
    await changed.embeddings.migrate("large", changed.progress)
    assert await changed.embeddings.pending() is None
    await changed.embeddings.back()
    assert await changed.embeddings.pending() is None  # going back was somebody's decision


async def test_a_third_model_forgets_the_first(house: House) -> None:
    await house.embeddings.migrate("large", house.progress)
    await house.embeddings.migrate("third", house.progress)
    assert await house.states() == {"large": "previous", "third": "active"}
    assert {key.partition("@")[0] for key in house.vectors.models} == {"large", "third"}
    assert await house.finds("candle") == "The candle stands here alone."
    assert await house.is_consistent()


async def test_a_model_is_dropped_but_never_the_active_one(house: House) -> None:
    await house.embeddings.migrate("large", house.progress, switch=False)
    assert await house.states() == {"small": "active", "large": "building"}
    with pytest.raises(Conflict):
        await house.embeddings.migrate("third", house.progress)
    with pytest.raises(Conflict):
        await house.embeddings.drop("small")
    await house.embeddings.drop("large")
    assert await house.states() == {"small": "active"}
    with pytest.raises(NotFound):
        await house.embeddings.drop("large")
    with pytest.raises(Conflict):
        await house.embeddings.back()


async def test_an_unfinished_model_cannot_answer(house: House) -> None:
    await house.embeddings.migrate("large", house.progress, switch=False)
    late = MemoryVectors()  # a process that does not know the model writes a document
    ignorant = replace(house.indexing, vectors=late)
    only_small = [m for m in await house.models.stored() if m.state == "active"]
    object.__setattr__(ignorant, "models", _Ignorant(house.models, only_small))
    await Documents(house.database, ignorant).add(ME, [NewDocument("Late words.")])
    with pytest.raises(Conflict, match="6 of 7"):
        await house.embeddings.switch("large")
    await house.embeddings.migrate("large", house.progress)
    assert await house.states() == {"small": "previous", "large": "active"}
    assert await house.finds("late words") == "Late words."


class _Ignorant(Models):
    def __init__(self, models: Models, known) -> None:
        super().__init__(models.database, models.open_embedder)
        self._known = known

    async def stored(self):
        return self._known


async def test_a_vector_that_was_given_covers_a_text_of_any_length(house: House) -> None:
    """Its document is one chunk, which another model embeds in parts."""
    long = " ".join(f"word{n}" for n in range(1000))
    given = NewDocument(f"{long} zebra", vector=[1.0] * 64)
    await house.documents.add(ME, [given])
    await house.embeddings.migrate("large", house.progress)
    assert await house.finds("word1 word2 word3 zebra word999") == given.content
