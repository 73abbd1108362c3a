"""Brings the index into step with the documents: the way from any change to being findable.

`apply` reads the present state of changed documents, cuts and embeds what is new outside any
transaction, writes chunks, embeddings and index, and last forgets the changes whose version
it read. Whatever dies on the way, the change is still there and is followed again.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import numpy as np

from ai_stack.alongside import is_cancelled
from ai_stack.database import Database, changes, chunks
from ai_stack.database.chunks import NewChunk, State
from ai_stack.database.documents import Lease
from ai_stack.database.embedding_models import StoredModel
from ai_stack.errors import AIStackError, StorageFull, TooBusy, Unavailable
from ai_stack.models.documents import Metadata
from ai_stack.services.chunking import Spans, chunk, headed
from ai_stack.services.embedding import Array, Models, budget, halved, normalised
from ai_stack.services.renewals import Renewals
from ai_stack.telemetry.metrics import Counted
from ai_stack.vectors import Point, Vectors

LEASE_S = 30.0
BATCH = 64
PIECE_BYTES, PIECE_DOCUMENTS = 256 << 10, 200
MAX_TRIES = 8
LONGEST_DELAY_S = 60.0
PASSING = (Unavailable, TooBusy, StorageFull)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cut:
    """A new chunk and the text that stands for it before the model; `vector` if it was given."""

    chunk: NewChunk
    text: str
    vector: Array | None


@dataclass(frozen=True, slots=True)
class Indexing:
    database: Database
    models: Models
    vectors: Vectors
    renewals: Renewals
    counted: Counted = field(default_factory=Counted)

    async def apply_due(self, batch: int = BATCH, longest: int | None = None) -> int:
        """Follow up to `batch` due changes of any project; how many there were.

        `longest` leaves documents of more bytes to others.
        """
        leases = await changes.lease(self.database, batch, LEASE_S, longest)
        await self.apply(leases)
        return len(leases)

    async def apply(self, leases: Sequence[Lease]) -> None:
        """Follow these changes. A failure is kept with its document, and tried again later."""
        projects = defaultdict[UUID, list[Lease]](list)
        for lease in leases:
            projects[lease.project_id].append(lease)
        for project_id, group in projects.items():
            await self._apply(project_id, group)

    async def _apply(self, project_id: UUID, leases: Sequence[Lease]) -> None:
        async with self.kept(project_id, leases):
            by_id = {lease.document_id: lease for lease in leases}
            async for piece in self.pieces(project_id, [*by_id]):
                await self._attempt(project_id, [by_id[id] for id in piece])

    async def _attempt(self, project_id: UUID, leases: Sequence[Lease]) -> None:
        try:
            await self._follow(project_id, leases)
        except PASSING as error:
            await self._postpone(project_id, leases, error)
        except AIStackError as error:
            await self._part(project_id, leases, error)
        except Exception:
            log.exception("indexing of %d documents failed unexpectedly", len(leases))
            await self._part(project_id, leases, AIStackError())

    async def _part(self, project_id: UUID, leases: Sequence[Lease], error: AIStackError) -> None:
        """One document's fault is not the others', which are followed each alone."""
        if len(leases) == 1:
            await self._postpone(project_id, leases, error)
            return
        for lease in leases:
            await self._attempt(project_id, [lease])

    @asynccontextmanager
    async def kept(self, project_id: UUID, leases: Sequence[Lease]) -> AsyncIterator[None]:
        """Keep the leases for as long as this takes, and for LEASE_S when this process dies."""
        keeper = asyncio.create_task(self._keep(project_id, leases))
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self, project_id: UUID, leases: Sequence[Lease]) -> None:
        while not is_cancelled():
            await asyncio.sleep(LEASE_S / 3)
            try:
                async with self.database.transaction(project_id) as tx:
                    await changes.extend(tx, leases, LEASE_S)
            except AIStackError:
                log.warning("leases could not be extended; the changes may be followed twice")

    async def pieces(self, project_id: UUID, ids: Sequence[UUID]) -> AsyncIterator[Sequence[UUID]]:
        """Documents in pieces of bounded content, so that memory does not follow their number."""
        async with self.database.transaction(project_id) as tx:
            sizes = await chunks.sizes(tx, ids)
        piece: list[UUID] = []
        held = 0
        for id in ids:
            size = sizes.get(id, 0)
            if piece and (held + size > PIECE_BYTES or len(piece) == PIECE_DOCUMENTS):
                yield piece
                piece, held = [], 0
            piece.append(id)
            held += size
        if piece:
            yield piece

    async def _postpone(
        self, project_id: UUID, leases: Sequence[Lease], error: AIStackError
    ) -> None:
        tries = max(lease.tries for lease in leases)
        passing = isinstance(error, PASSING)
        final = not passing and (error.status < 500 or tries >= MAX_TRIES)
        delay = min(2.0 ** min(tries, 10), LONGEST_DELAY_S) if not passing else min(tries, 5)
        log.warning("indexing of %d documents failed: %s", len(leases), error.message)
        then = "given_up" if final else "again"
        self.counted.indexing_failures.add(then, by=len(leases))
        async with self.database.transaction(project_id) as tx:
            await changes.postpone(tx, leases, error.message, delay, final=final)

    async def _follow(self, project_id: UUID, leases: Sequence[Lease]) -> None:
        ids = [lease.document_id for lease in leases]
        async with self.database.transaction(project_id) as tx:
            states = await chunks.states(tx, ids)
        changed = [s for s in states if s.content is not None]
        await self._rewrite(project_id, changed)
        for model in await self.kept_models():
            await self.embed_missing(project_id, model, [s.document_id for s in states])
            await self.publish(project_id, model, ids)
        await self.renewals.renew(project_id)
        async with self.database.transaction(project_id) as tx:
            await changes.finish(tx, leases)
        self.counted.indexed.add(by=len(leases))

    async def kept_models(self) -> list[StoredModel]:
        """The models whose vectors are kept, the active one first."""
        active = await self.models.active()
        return [active, *(m for m in await self.models.stored() if m.id != active.id)]

    async def _rewrite(self, project_id: UUID, states: Sequence[State]) -> None:
        """Cut what changed anew and store it with the active model's vectors."""
        if not states:
            return
        model = await self.models.active()
        cuts = await self._cut(model, states)
        vectors = await self._embed(model, cuts)
        async with self.database.transaction(project_id) as tx:
            written = await chunks.replace(tx, states, [c.chunk for c in cuts])
            kept = [i for i, c in enumerate(cuts) if c.chunk.document_id in written]
            pairs = [(cuts[i].chunk.id, cuts[i].chunk.document_id) for i in kept]
            await chunks.embed(tx, model.id, pairs, vectors[kept])

    async def _cut(self, model: StoredModel, states: Sequence[State]) -> list[Cut]:
        whole = [s for s in states if _fits(s.vector, model)]
        parted = [s for s in states if not _fits(s.vector, model)]
        cuts = [self._whole(s) for s in whole]
        if not parted:
            return cuts
        embedder = await self.models.embedder(model.model)
        titles = [_title(s) for s in parted]
        spans = await embedder.spans([*(s.content or "" for s in parted), *titles])
        for n, state in enumerate(parted):
            title = (titles[n], spans[len(parted) + n])
            cuts += await asyncio.to_thread(
                self._parted, state, spans[n], title, budget(model.model)
            )
        return cuts

    def _whole(self, state: State) -> Cut:
        content = state.content or ""
        vector = halved(normalised(np.atleast_2d(cast(Array, state.vector))))[0]
        new = NewChunk(
            self.database.new_id(),
            state.document_id,
            state.content_version,
            0,
            0,
            len(content),
            "",
            content,
        )
        return Cut(new, content, vector)

    def _parted(self, state: State, spans: Spans, title: tuple[str, Spans], room: int) -> list[Cut]:
        found = chunk(
            state.content or "",
            spans,
            budget=room,
            title=title[0],
            title_spans=title[1],
            language=_language(state),
        )
        return [
            Cut(
                NewChunk(
                    self.database.new_id(),
                    state.document_id,
                    state.content_version,
                    c.ordinal,
                    c.start,
                    c.end,
                    c.heading,
                    c.text,
                ),
                headed(c),
                None,
            )
            for c in found
        ]

    async def _embed(self, model: StoredModel, cuts: Sequence[Cut]) -> Array:
        vectors = np.empty((len(cuts), model.model.dimensions), np.float32)
        missing = [i for i, c in enumerate(cuts) if c.vector is None]
        if missing:
            texts = [cuts[i].text for i in missing]
            vectors[missing] = await self.models.passages(model.model, texts)
        for i, cut in enumerate(cuts):
            if cut.vector is not None:
                vectors[i] = cut.vector
        return vectors

    async def embed_missing(self, project_id: UUID, model: StoredModel, ids: Sequence[UUID]) -> int:
        """Give a model the vectors that it lacks: all of them while it is being built.

        How many there were.
        """
        async with self.database.transaction(project_id) as tx:
            missing = await chunks.without_embedding(tx, model.id, ids)
        if not missing:
            return 0
        texts = [f"{heading}\n{text}" if heading else text for _, _, heading, text in missing]
        vectors = await self.models.passages(model.model, texts)
        async with self.database.transaction(project_id) as tx:
            await chunks.embed(tx, model.id, [(c, d) for c, d, _, _ in missing], vectors)
        return len(missing)

    async def publish(self, project_id: UUID, model: StoredModel, ids: Sequence[UUID]) -> None:
        """Put the stored vectors of these documents into the index, and nothing else of them.

        A twin may have followed a later change since the vectors were read, and what is written
        here would undo it: so they are read again, until what was written is what is stored.
        """
        written = None
        while (stored := await self._stored(project_id, model, ids)) != written:
            if written is not None:
                await self.embed_missing(project_id, model, ids)
            await self._write(project_id, model, ids)
            written = stored

    async def _stored(
        self, project_id: UUID, model: StoredModel, ids: Sequence[UUID]
    ) -> set[tuple[UUID, int]]:
        async with self.database.transaction(project_id) as tx:
            return await chunks.embedded_versions(tx, model.id, ids)

    async def _write(self, project_id: UUID, model: StoredModel, ids: Sequence[UUID]) -> None:
        async with self.database.transaction(project_id) as tx:
            stored = await chunks.embedded(tx, model.id, ids)
        points = [
            Point(e.chunk_id, e.document_id, project_id, e.vector, cast(Metadata, e.metadata))
            for e in stored
        ]
        await self.vectors.upsert(model.model, points)
        keep = [p.chunk_id for p in points]
        await self.vectors.delete(model.model, project_id, ids, keep)


def _fits(vector: Array | None, model: StoredModel) -> bool:
    return vector is not None and len(vector) == model.model.dimensions


def _title(state: State) -> str:
    title = state.metadata.get("title")
    return title if isinstance(title, str) else ""


def _language(state: State) -> str | None:
    language = state.metadata.get("language")
    return language if isinstance(language, str) else None
