"""pgvector: the rows of `embeddings` are the index, so the indexing service has written it already.

A search walks the model's HNSW graph; a project of few vectors, and an answer that the graph
left short, is scanned exactly.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ai_stack.database import Database, translated
from ai_stack.database.filters import compile_filter
from ai_stack.database.locks import connect
from ai_stack.errors import (
    DatabaseUnavailable,
    DeadlineExceeded,
    SettingsError,
    VectorsUnavailable,
)
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.search import Hit
from ai_stack.vectors import Point, VectorQuery, unit_rows

FEW, PAGE = 3_000, 2_000
KNOWN_S = 2.0  # less than a migration lets pass before it writes and switches
SETTINGS = (
    "SELECT set_config('app.project', %(project)s, true),"
    " set_config('hnsw.ef_search', %(ef)s, true),"
    " set_config('hnsw.iterative_scan', 'relaxed_order', true)"
)
EF, EF_FILTERED, EF_MAX = 100, 400, 1000


@contextmanager
def database_errors() -> Iterator[None]:
    try:
        with translated():
            yield
    except (DatabaseUnavailable, DeadlineExceeded) as error:
        raise VectorsUnavailable from error


class PgVectors:
    """Searches on the database's own pool; a model that it does not know has no points."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._ids: dict[str, tuple[int, float]] = {}
        self._indexed: set[int] = set()
        self._large: set[tuple[int, UUID]] = set()
        self._elsewhere: PgVectors | None = None

    def over(self, database: Database) -> "PgVectors":
        if self._elsewhere is None or self._elsewhere.database is not database:
            self._elsewhere = PgVectors(database)
        return self._elsewhere

    async def upsert(self, model: EmbeddingModel, points: Sequence[Point]) -> None:
        """See that the model has its graph: PostgreSQL adds the rows to it as they come."""
        unit_rows([p.vector for p in points], model)
        async with self._connection() as connection:
            number = await self._number(connection, model)
        if number is not None and number not in self._indexed:
            with database_errors():
                async with await connect(self.database) as beside:  # of many rows it takes minutes
                    await beside.execute("SELECT tenant.index_model(%s, true)", [number])
            self._indexed.add(number)

    async def delete(
        self,
        model: EmbeddingModel,
        project_id: UUID,
        document_ids: Collection[UUID] | None,
        keep: Collection[UUID] = (),
    ) -> None:
        async with self._connection() as connection:
            number = await self._number(connection, model)
            if number is None or (document_ids is not None and not document_ids):
                return
            named = "true" if document_ids is None else "document_id = ANY (%(ids)s)"
            await self._execute(
                connection,
                {"project": str(project_id), "ef": str(EF)},
                f"DELETE FROM embeddings WHERE model_id = {number} AND chunk_id <> ALL (%(keep)s)"
                f" AND chunk_id IN (SELECT id FROM chunks WHERE {named})"
                " RETURNING chunk_id",
                {"ids": list(document_ids or ()), "keep": list(keep)},
            )

    async def search(self, model: EmbeddingModel, query: VectorQuery) -> Sequence[Hit]:
        vector = str(unit_rows([query.vector], model)[0].tolist())
        async with self._connection() as connection:
            number = await self._number(connection, model)
            if number is None:
                return []
            exact = query.exact or not await self._is_large(connection, number, query.project_id)
            hits = await self._hits(connection, number, model, query, vector, exact=exact)
            if not exact and len(hits) < query.limit:
                hits = await self._hits(connection, number, model, query, vector, exact=True)
        return hits

    async def _hits(
        self,
        connection: AsyncConnection[TupleRow],
        number: int,
        model: EmbeddingModel,
        query: VectorQuery,
        vector: str,
        *,
        exact: bool,
    ) -> list[Hit]:
        width = int(model.dimensions)
        distance = f"(e.vector::halfvec({width}) <=> %(vector)s::halfvec({width}))"
        order = f"{distance} + 0" if exact else distance  # the index cannot serve a sum
        condition, parameters = compile_filter(query.filter)
        width_of_walk = EF if query.filter is None else EF_FILTERED
        join = " JOIN documents d ON d.id = e.document_id" if query.filter is not None else ""
        rows = await self._execute(
            connection,
            {
                "project": str(query.project_id),
                "ef": str(min(max(width_of_walk, query.limit), EF_MAX)),
            },
            f"SELECT e.chunk_id, e.document_id, 1 - {distance} FROM embeddings e{join}"
            f" WHERE e.model_id = {number} AND {condition} ORDER BY {order} LIMIT %(limit)s",
            {"vector": vector, "limit": query.limit, **parameters},
        )
        return sorted((Hit(r[0], r[1], r[2]) for r in rows), key=lambda hit: -hit.score)

    async def _is_large(
        self, connection: AsyncConnection[TupleRow], number: int, project_id: UUID
    ) -> bool:
        """Whether a project has more than FEW vectors; that it has is remembered."""
        if (number, project_id) in self._large:
            return True
        rows = await self._execute(
            connection,
            {"project": str(project_id), "ef": str(EF)},
            "SELECT count(*) FROM (SELECT FROM embeddings"
            f" WHERE model_id = {number} LIMIT {FEW + 1}) few",
            {},
        )
        if rows[0][0] > FEW:
            self._large.add((number, project_id))
        return bool(rows[0][0] > FEW)

    async def scan(self, model: EmbeddingModel) -> AsyncIterator[Sequence[tuple[UUID, UUID, UUID]]]:
        async with self._connection() as connection:
            number = await self._number(connection, model)
            found = await connection.execute("SELECT tenant.list_projects()")
            projects = [row[0] for row in await found.fetchall()]
        for project_id in projects if number is not None else ():
            after = UUID(int=0)
            while batch := await self._page(number, project_id, after):
                yield [(chunk, document, project_id) for chunk, document in batch]
                after = batch[-1][0]

    async def _page(
        self, number: int | None, project_id: UUID, after: UUID
    ) -> list[tuple[UUID, UUID]]:
        async with self._connection() as connection:
            rows = await self._execute(
                connection,
                {"project": str(project_id), "ef": str(EF)},
                f"SELECT chunk_id, document_id FROM embeddings WHERE model_id = {number}"
                f" AND chunk_id > %(after)s ORDER BY chunk_id LIMIT {PAGE}",
                {"after": after},
            )
        return [(row[0], row[1]) for row in rows]

    async def count(self, model: EmbeddingModel) -> int:
        async with self._connection() as connection:
            number = await self._number(connection, model)
            if number is None:
                return 0
            found = await connection.execute("SELECT tenant.count_vectors(%s)", [number])
            row = await found.fetchone()
        return 0 if row is None else int(row[0])

    async def drop(self, model: EmbeddingModel) -> None:
        """Drop the graph; the rows are the truth and stay."""
        async with self._connection() as connection:
            number = await self._number(connection, model)
            if number is not None:
                await connection.execute("SELECT tenant.index_model(%s, false)", [number])
                self._indexed.discard(number)
        self._ids.pop(model.key, None)

    async def ping(self) -> None:
        async with self._connection() as connection:
            await connection.execute("SELECT 1")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        with database_errors():
            self.database.liveness.check()
            async with self.database.pool.connection() as connection:
                yield connection

    async def _number(
        self, connection: AsyncConnection[TupleRow], model: EmbeddingModel
    ) -> int | None:
        """The model's number, a literal in every statement so that one partition is planned.

        It is asked for now and then: a model that was dropped gets another when it comes again.
        """
        now = asyncio.get_running_loop().time()
        number, asked_at = self._ids.get(model.key, (None, 0.0))
        if number is not None and now - asked_at < KNOWN_S:
            return number
        found = await connection.execute("SELECT id FROM models WHERE key = %s", [model.key])
        if (row := await found.fetchone()) is None:
            self._ids.pop(model.key, None)
            return None
        self._ids[model.key] = (int(row[0]), now)
        return int(row[0])

    async def _execute(
        self,
        connection: AsyncConnection[TupleRow],
        settings: dict[str, object],
        sql: str,
        parameters: dict[str, Any],
    ) -> list[TupleRow]:
        """Settings and a statement with rows in one round trip, which is one transaction."""
        async with connection.pipeline():
            await connection.execute(SETTINGS, settings)
            found = await connection.execute(sql, parameters)
            return await found.fetchall()


@asynccontextmanager
async def open_backend(
    url: str, *, database: Database | None = None, **_: object
) -> AsyncIterator[PgVectors]:
    if database is None:
        raise SettingsError("pgvector: needs the database of the documents.")
    yield PgVectors(database)
