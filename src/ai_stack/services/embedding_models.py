"""Embedding models in use: another is built beside the one that answers, then takes its place."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_stack.database import Database, consistency
from ai_stack.database import embedding_models as rows
from ai_stack.database.embedding_models import StoredModel
from ai_stack.errors import Conflict, NotFound
from ai_stack.models.documents import JSON
from ai_stack.services.embedding import REFRESH_S, Models
from ai_stack.services.fsck import Fsck, Progress
from ai_stack.services.indexing import BATCH, Indexing
from ai_stack.vectors import Vectors

SETTLE_S = REFRESH_S * 1.5


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A stored model, and how many of all chunks have a vector of it."""

    stored: StoredModel
    embedded: int
    chunks: int


@dataclass(frozen=True, slots=True)
class EmbeddingModels:
    """At most three: the active one, the one before it as the way back, one being built."""

    database: Database
    models: Models
    vectors: Vectors
    indexing: Indexing
    fsck: Fsck
    settle_s: float = SETTLE_S

    async def all(self) -> list[ModelStatus]:
        """The stored models, oldest first."""
        found = await self._stored()
        counted = [await self._counts(model) for model in found]
        return [ModelStatus(m, *counts) for m, counts in zip(found, counted, strict=True)]

    async def pending(self) -> str | None:
        """The configured model, when it has no vectors yet or was left half built."""
        await self.models.active()
        configured = (await self.models.configured()).model
        for stored in await self._stored():
            if stored.model.key == configured.key:
                embedded, chunks = await self._counts(stored)
                done = stored.state != "building" or embedded == chunks
                return None if done else configured.name
        return configured.name

    async def migrate(
        self, name: str, progress: Progress, *, switch: bool = True
    ) -> Mapping[str, JSON]:
        """Give every chunk a vector of another model, then have that model answer.

        Searches go on with the present model, and changes are followed for both. It can be
        broken off and begun again: what is embedded stays. Raises Conflict when another
        model is being built.
        """
        model = await self._begin(name)
        await asyncio.sleep(self.settle_s)  # by then every process keeps the new model in step
        embedded = await self._embed(model, progress)
        if switch and model.state != "active":
            await self.switch(model.model.key)
            await asyncio.sleep(self.settle_s)  # and by then every process searches by it
            embedded += await self._fill(model)
        return {"model": model.model.key, "embedded": embedded, "switched": switch}

    async def switch(self, name: str) -> StoredModel:
        """Have a model answer that has all vectors; the one before it becomes the way back.

        Raises NotFound, and Conflict when chunks lack a vector of it.
        """
        model = await self._find(name)
        if model.state == "building" and await self._missing(model):
            embedded, chunks = await self._counts(model)
            raise Conflict(f"{model.model.name} has vectors of {embedded} of {chunks} chunks yet.")
        if model.state != "active":
            await self._set_state(model, "active")
            await self._forget_retired()
            await self._renew()
        return await self._find(model.model.key)

    async def back(self) -> StoredModel:
        """Have the model before the active one answer again; Conflict when there is none."""
        previous = next((m for m in await self._stored() if m.state == "previous"), None)
        if previous is None:
            raise Conflict("There is no embedding model to go back to.")
        return await self.switch(previous.model.key)

    async def drop(self, name: str) -> None:
        """Forget a model with its vectors and its index; Conflict for the active one."""
        model = await self._find(name)
        if model.state == "active":
            raise Conflict(f"{model.model.name} is the active model.")
        await self._set_state(model, "retired")
        await self._forget_retired()

    async def _begin(self, name: str) -> StoredModel:
        described = (await self.models.named(name)).model
        await self.models.active()
        for stored in await self._stored():
            if stored.model.key == described.key:
                return stored
            if stored.state == "building":
                raise Conflict(f"{stored.model.name} is being built; let it end, or drop it first.")
        async with self.database.transaction(None) as tx:
            await rows.set_state(tx, await rows.add(tx, described, "building"), "building")
        return await self._find(described.key)

    async def _embed(self, model: StoredModel, progress: Progress) -> int:
        """Embed and publish document after document, then what was missed meanwhile."""
        done, total, embedded = 0, await self.fsck.documents(), 0
        for project_id in await consistency.projects(self.database):
            async for page in self.fsck.pages(project_id):
                async for ids in self.indexing.pieces(project_id, page):
                    embedded += await self.indexing.embed_missing(project_id, model, ids)
                    await self.indexing.publish(project_id, model, ids)
                    done += len(ids)
                    await progress(done, max(total, done), f"documents by {model.model.name}")
        return embedded + await self._fill(model)

    async def _fill(self, model: StoredModel) -> int:
        """Embed what a process that did not know the model yet has written without it."""
        embedded = 0
        for project_id in await consistency.projects(self.database):
            while True:
                async with self.database.transaction(project_id) as tx:
                    ids = await consistency.documents_without(tx, model.id, BATCH)
                if not ids:
                    break
                async for piece in self.indexing.pieces(project_id, ids):
                    embedded += await self.indexing.embed_missing(project_id, model, piece)
                    await self.indexing.publish(project_id, model, piece)
        return embedded

    async def _stored(self) -> Sequence[StoredModel]:
        self.models.forget()
        return await self.models.stored()

    async def _find(self, name: str) -> StoredModel:
        """The stored model of a name or key."""
        for stored in reversed(await self._stored()):
            if name in (stored.model.key, stored.model.name):
                return stored
        raise NotFound(f"There are no vectors of an embedding model {name}.")

    async def _counts(self, model: StoredModel) -> tuple[int, int]:
        embedded = chunks = 0
        for project_id in await consistency.projects(self.database):
            async with self.database.transaction(project_id) as tx:
                chunks += (await consistency.counts(tx))[1]
                embedded += await consistency.count_vectors(tx, model.id)
        return embedded, chunks

    async def _missing(self, model: StoredModel) -> int:
        missing = 0
        for project_id in await consistency.projects(self.database):
            async with self.database.transaction(project_id) as tx:
                missing += await consistency.count_missing(tx, model.id)
        return missing

    async def _set_state(self, model: StoredModel, state: rows.ModelState) -> None:
        async with self.database.transaction(None) as tx:
            await rows.set_state(tx, model.id, state)
        self.models.forget()

    async def _forget_retired(self) -> None:
        """Drop what no process uses any more."""
        async with self.database.transaction(None) as tx:
            retired = await rows.retired(tx)
        for model in retired:
            await self.vectors.drop(model.model)
            async with self.database.transaction(None) as tx:
                await rows.drop(tx, model.id)

    async def _renew(self) -> None:
        for project_id in await consistency.projects(self.database):
            await self.indexing.renewals.renew(project_id)
