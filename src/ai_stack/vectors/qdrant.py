"""A Qdrant server: one collection for each model behind an alias, tenants by project."""

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import httpx
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from ai_stack.errors import SettingsError, VectorsUnavailable
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.search import Hit
from ai_stack.vectors import Point, VectorQuery, unit_rows
from ai_stack.vectors.qdrant_filters import Conditions, compile_filter, of_project, payload

BATCH, PAGE, TIMEOUT_S = 500, 1000, 10
EF, WIDEN, MAX_FIELDS = 128, 4, 24
LOOKUP = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False)
INDEXES: dict[str, models.PayloadSchemaType | models.PayloadSchemaParams] = {
    "p": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
    "d": models.PayloadSchemaType.KEYWORD,
    "t": LOOKUP,
    "e": LOOKUP,
}


@contextmanager
def client_errors() -> Iterator[None]:
    try:
        yield
    except (ResponseHandlingException, UnexpectedResponse, httpx.HTTPError) as error:
        raise VectorsUnavailable from error


class QdrantVectors:
    """A client of one server; `client` is closed by whoever made it.

    `shards` and `replicas` are what collections are made with, for a cluster.
    """

    def __init__(
        self, client: AsyncQdrantClient, shards: int | None = None, replicas: int | None = None
    ) -> None:
        self.client = client
        self._shards, self._replicas = shards, replicas
        self._known: set[str] = set()
        self._fields: dict[str, set[str]] = {}

    async def upsert(self, model: EmbeddingModel, points: Sequence[Point]) -> None:
        rows = unit_rows([p.vector for p in points], model)
        with client_errors():
            await self._create(model)
            for i in range(0, len(points), BATCH):
                batch = zip(points[i : i + BATCH], rows[i : i + BATCH], strict=True)
                stored = [_stored(point, row.tolist()) for point, row in batch]
                await self.client.upsert(_alias(model), stored, wait=True)

    async def delete(
        self,
        model: EmbeddingModel,
        project_id: UUID,
        document_ids: Collection[UUID] | None,
        keep: Collection[UUID] = (),
    ) -> None:
        must: list[dict[str, Any]] = [of_project(project_id)]
        if document_ids is not None:
            must.append({"key": "d", "match": {"any": [str(d) for d in document_ids]}})
        kept = {"must_not": [{"has_id": [str(k) for k in keep]}]} if keep else {}
        chosen = models.FilterSelector(filter=_filter({"must": must, **kept}))
        with client_errors():
            if (document_ids is None or document_ids) and await self._exists(model):
                await self.client.delete(_alias(model), chosen, wait=True)

    async def search(self, model: EmbeddingModel, query: VectorQuery) -> Sequence[Hit]:
        vector: list[float] = unit_rows([query.vector], model)[0].tolist()
        conditions = compile_filter(query.filter)
        limit = query.limit if conditions.exact else query.limit * WIDEN
        with client_errors():
            if not await self._exists(model):
                return []
            await self._index(model, conditions.fields)
            while True:
                found = await self._found(model, vector, query, conditions, limit)
                hits = [_hit(p) for p in found if conditions.admits((p.payload or {}).get("m"))]
                if len(hits) >= query.limit or len(found) < limit:
                    return hits[: query.limit]
                limit *= WIDEN

    async def _found(
        self,
        model: EmbeddingModel,
        vector: list[float],
        query: VectorQuery,
        conditions: Conditions,
        limit: int,
    ) -> list[models.ScoredPoint]:
        answer = await self.client.query_points(
            _alias(model),
            query=vector,
            query_filter=_filter({"must": [of_project(query.project_id), *conditions.must]}),
            limit=limit,
            with_payload=["d", "m"],
            search_params=models.SearchParams(hnsw_ef=max(EF, limit), exact=query.exact),
        )
        return answer.points

    async def scan(self, model: EmbeddingModel) -> AsyncIterator[Sequence[tuple[UUID, UUID, UUID]]]:
        with client_errors():
            if not await self._exists(model):
                return
        after: Any = None
        while True:
            with client_errors():
                points, after = await self.client.scroll(
                    _alias(model), offset=after, limit=PAGE, with_payload=["d", "p"]
                )
            if points:
                yield [_ids(p) for p in points]
            if after is None:
                return

    async def count(self, model: EmbeddingModel) -> int:
        with client_errors():
            if not await self._exists(model):
                return 0
            return (await self.client.count(_alias(model), exact=True)).count

    async def drop(self, model: EmbeddingModel) -> None:
        alias = _alias(model)
        with client_errors():
            if await self._exists(model):
                gone = models.DeleteAliasOperation(
                    delete_alias=models.DeleteAlias(alias_name=alias)
                )
                await self.client.update_collection_aliases([gone])
                await self.client.delete_collection(_first(model))
        self._known.discard(alias)
        self._fields.pop(alias, None)

    async def ping(self) -> None:
        with client_errors():
            await self.client.get_collections()

    async def _exists(self, model: EmbeddingModel) -> bool:
        alias = _alias(model)
        if alias not in self._known and await self.client.collection_exists(alias):
            self._known.add(alias)
        return alias in self._known

    async def _create(self, model: EmbeddingModel) -> None:
        """Make the collection, its indexes and last its alias, all of which may exist."""
        if await self._exists(model):
            return
        vectors = models.VectorParams(size=model.dimensions, distance=models.Distance.DOT)
        with suppress(UnexpectedResponse, ValueError):  # another gateway was first
            await self.client.create_collection(
                _first(model),
                vectors_config=vectors,
                shard_number=self._shards,
                replication_factor=self._replicas,
            )
        for field, schema in INDEXES.items():
            await self.client.create_payload_index(_first(model), field, schema, wait=True)
        alias = models.CreateAlias(collection_name=_first(model), alias_name=_alias(model))
        await self.client.update_collection_aliases(
            [models.CreateAliasOperation(create_alias=alias)]
        )

    async def _index(self, model: EmbeddingModel, fields: Sequence[str]) -> None:
        """Have newly asked fields indexed; the server does it beside its searches."""
        known = self._fields.setdefault(_alias(model), set())
        for field in fields:
            if field not in known and len(known) < MAX_FIELDS:
                known.add(field)
                schema = models.PayloadSchemaType.FLOAT
                await self.client.create_payload_index(_alias(model), field, schema, wait=False)


def _alias(model: EmbeddingModel) -> str:
    return "ai-stack-" + quote(model.key, safe="@").replace("%", "_")


def _first(model: EmbeddingModel) -> str:
    return f"{_alias(model)}-1"


def _filter(conditions: dict[str, Any]) -> models.Filter:
    return models.Filter.model_validate(conditions)


def _stored(point: Point, row: list[float]) -> models.PointStruct:
    ids = {"p": str(point.project_id), "d": str(point.document_id)}
    return models.PointStruct(
        id=str(point.chunk_id), vector=row, payload=ids | payload(point.metadata)
    )


def _hit(point: models.ScoredPoint) -> Hit:
    return Hit(UUID(str(point.id)), UUID((point.payload or {})["d"]), point.score)


def _ids(record: models.Record) -> tuple[UUID, UUID, UUID]:
    found = record.payload or {}
    return UUID(str(record.id)), UUID(found["d"]), UUID(found["p"])


def _number(query: str, name: str) -> int | None:
    value = parse_qs(query).get(name, [None])[0]
    if value is not None and not value.isdecimal():
        raise SettingsError(f"{name} of AI_STACK_VECTORS_URL is a number.")
    return None if value is None else int(value)


@asynccontextmanager
async def open_backend(
    url: str, *, api_key: str | None = None, **_: object
) -> AsyncIterator[QdrantVectors]:
    """`?shards=6&replicas=2` is for a cluster; SettingsError where these are no numbers."""
    parts = urlsplit(url)
    scheme = "https" if parts.scheme == "qdrants" else "http"
    client = AsyncQdrantClient(
        url=f"{scheme}://{parts.netloc}",
        api_key=api_key,
        timeout=TIMEOUT_S,
        check_compatibility=False,
    )
    try:
        yield QdrantVectors(
            client, _number(parts.query, "shards"), _number(parts.query, "replicas")
        )
    finally:
        await client.close()
