"""Documents that bring their vectors: written with chunk and embedding at once, then published.

`Indexing` follows any change, and reads anew what it follows; here all is at hand already. What
does not go as expected is left to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ai_stack.database import Transaction, changes, documents
from ai_stack.database import arrivals as rows
from ai_stack.database.arrivals import Arrival
from ai_stack.database.documents import Lease
from ai_stack.database.embedding_models import StoredModel
from ai_stack.errors import AIStackError
from ai_stack.models.documents import Document, NewDocument
from ai_stack.services.embedding import halved, normalised
from ai_stack.services.indexing import LEASE_S, Indexing
from ai_stack.vectors import Point

LONGEST, LONGEST_TOGETHER = 100_000, 1 << 20


@dataclass(frozen=True, slots=True)
class Arrived:
    """Documents that are stored, chunks and vectors with them, and not yet in the index."""

    model: StoredModel
    documents: Sequence[Document]
    leases: Sequence[Lease]
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Arrivals:
    indexing: Indexing

    async def model(self, new: Sequence[NewDocument]) -> StoredModel | None:
        """The model whose vectors all of these bring; None when they go the long way."""
        sizes = [len(document.content) for document in new]
        if max(sizes) > LONGEST or sum(sizes) > LONGEST_TOGETHER:
            return None
        if any(document.vector is None for document in new):
            return None
        model = await self.indexing.models.active()
        widths = {len(document.vector or ()) for document in new}
        return model if widths == {model.model.dimensions} else None

    async def write(
        self, tx: Transaction, model: StoredModel, new: Sequence[NewDocument]
    ) -> Arrived:
        """Store documents, chunks, vectors, and the change that the index has to follow."""
        arrivals = [Arrival(tx.new_id(), tx.new_id(), document) for document in new]
        given = halved(np.asarray([document.vector for document in new], np.float32))
        vectors = halved(normalised(given))
        stored = await rows.insert(tx, arrivals, given)
        leases = await documents.mark_dirty(tx, [a.id for a in arrivals], LEASE_S)
        await rows.embed(tx, model.id, arrivals, vectors)
        project_id = leases[0].project_id
        points = [
            Point(a.chunk_id, a.id, project_id, vector, document.metadata)
            for a, vector, document in zip(arrivals, vectors, stored, strict=True)
        ]
        return Arrived(model, stored, leases, points)

    async def publish(self, arrived: Arrived) -> bool:
        """Put them into the index; False when something is in the way, or has changed since.

        A change that is still the last one when it is finished had no twin that followed a
        later one before.
        """
        indexing, project_id = self.indexing, arrived.leases[0].project_id
        try:
            async with indexing.kept(project_id, arrived.leases):
                await indexing.vectors.upsert(arrived.model.model, arrived.points)
                await indexing.renewals.renew(project_id)
                if [m.id for m in await indexing.kept_models()] != [arrived.model.id]:
                    return False
                async with indexing.database.transaction(project_id) as tx:
                    return await changes.finish(tx, arrived.leases) == len(arrived.leases)
        except AIStackError:
            return False
