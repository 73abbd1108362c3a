"""Qdrant's engine in a child process; it knows the channel, not the engine."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from ai_stack.channel import Channel
from ai_stack.errors import SettingsError, TooLarge, Unavailable, VectorsUnavailable
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.search import Hit
from ai_stack.vectors import Point, Rows, VectorQuery, unit_rows
from ai_stack.vectors.qdrant_filters import Conditions, compile_filter, payload

BATCH, PAGE = 500, 1000
SEARCH_S, WRITE_S, PING_S = 5.0, 60.0, 1.0
ERASE_S, ERASE_LOOK_S = 1800.0, 0.2
WIDEN = 4


class EdgeVectors:
    """A client of `edge_child`."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def upsert(self, model: EmbeddingModel, points: Sequence[Point]) -> None:
        rows = unit_rows([p.vector for p in points], model)
        for i in range(0, len(points), BATCH):
            await self._upsert(model, points[i : i + BATCH], rows[i : i + BATCH])

    async def _upsert(self, model: EmbeddingModel, points: Sequence[Point], rows: Rows) -> None:
        """Write a batch, in halves when its metadata is too much for one call."""
        try:
            await self._call(
                "upsert",
                model,
                rows.tobytes(),
                WRITE_S,
                dimensions=model.dimensions,
                ids=[p.chunk_id for p in points],
                payloads=[_payload(p) for p in points],
            )
        except TooLarge:
            if len(points) == 1:
                raise
            half = len(points) // 2
            await self._upsert(model, points[:half], rows[:half])
            await self._upsert(model, points[half:], rows[half:])

    async def delete(
        self,
        model: EmbeddingModel,
        project_id: UUID,
        document_ids: Collection[UUID] | None,
        keep: Collection[UUID] = (),
    ) -> None:
        if document_ids is None:
            await self._erase(model, project_id)
            return
        if not document_ids:
            return
        must: dict[str, Any] = {"key": "d", "match": {"any": sorted(map(str, document_ids))}}
        kept = [{"must_not": [{"has_id": sorted(map(str, keep))}]}] if keep else []
        await self._call("delete", model, b"", WRITE_S, project=project_id, must=[must, *kept])

    async def _erase(self, model: EmbeddingModel, project_id: UUID) -> None:
        """Remove a project's points; returns when the files that held them are gone too."""
        scope = {"project": project_id, "must": []}
        done = (await self._call("erase", model, b"", WRITE_S, begin=True, **scope))["done"]
        until = asyncio.get_running_loop().time() + ERASE_S
        while not done and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(ERASE_LOOK_S)
            done = (await self._call("erase", model, b"", WRITE_S, begin=False, **scope))["done"]
        if not done:
            raise VectorsUnavailable("The vector index is not written anew yet.")

    async def search(self, model: EmbeddingModel, query: VectorQuery) -> Sequence[Hit]:
        vector = unit_rows([query.vector], model)[0].tobytes()
        conditions = compile_filter(query.filter)
        limit = query.limit if conditions.exact else query.limit * WIDEN
        while True:
            found = await self._found(model, vector, query, conditions, limit)
            hits = [Hit(UUID(c), UUID(d), s) for c, d, s, m in found if conditions.admits(m)]
            if len(hits) >= query.limit or len(found) < limit:
                return hits[: query.limit]
            limit *= WIDEN

    async def _found(
        self,
        model: EmbeddingModel,
        vector: bytes,
        query: VectorQuery,
        conditions: Conditions,
        limit: int,
    ) -> list[tuple[str, str, float, str | None]]:
        answer = await self._call(
            "search",
            model,
            vector,
            SEARCH_S,
            project=query.project_id,
            must=conditions.must,
            limit=limit,
            exact=query.exact,
            linked=conditions.linked,
            settle=not conditions.exact,
            fields=conditions.fields,
        )
        found: list[tuple[str, str, float, str | None]] = answer["hits"]
        return found

    async def scan(self, model: EmbeddingModel) -> AsyncIterator[Sequence[tuple[UUID, UUID, UUID]]]:
        after: str | None = None
        while True:
            answer = await self._call("scan", model, b"", WRITE_S, after=after, limit=PAGE + 1)
            points: list[tuple[str, str, str]] = answer["points"]
            if points:
                yield [(UUID(c), UUID(d), UUID(p)) for c, d, p in points[:PAGE]]
            if len(points) <= PAGE:
                return
            after = points[PAGE][0]

    async def count(self, model: EmbeddingModel) -> int:
        try:
            answer, _ = await self.channel.call("ping", timeout_s=SEARCH_S)
        except Unavailable as error:
            raise VectorsUnavailable from error
        return int(answer["points"].get(model.key, 0))

    async def drop(self, model: EmbeddingModel) -> None:
        await self._call("drop", model, b"", WRITE_S)

    async def ping(self) -> None:
        try:
            await self.channel.call("ping", timeout_s=PING_S)
        except Unavailable as error:
            raise VectorsUnavailable from error

    async def _call(
        self,
        method: str,
        model: EmbeddingModel,
        body: bytes,
        timeout_s: float,
        **arguments: object,
    ) -> dict[str, Any]:
        try:
            answer, _ = await self.channel.call(
                method, body, timeout_s=timeout_s, model=model.key, **arguments
            )
        except VectorsUnavailable:
            raise
        except Unavailable as error:
            raise VectorsUnavailable from error
        return answer


def _payload(point: Point) -> dict[str, Any]:
    ids = {"p": str(point.project_id), "d": str(point.document_id)}
    return ids | payload(point.metadata)


@asynccontextmanager
async def open_backend(url: str, **_: object) -> AsyncIterator[EdgeVectors]:
    path = urlsplit(url).path
    if not path:
        raise SettingsError("AI_STACK_VECTORS_URL must name a socket: qdrant-edge:///PATH.")
    channel = Channel(Path(path))
    try:
        yield EdgeVectors(channel)
    finally:
        await channel.aclose()
