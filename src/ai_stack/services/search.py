"""Search: by meaning, by words, or both; passages folded into their documents."""

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np
import orjson

from ai_stack.caches import Cache
from ai_stack.database import Database
from ai_stack.database import search as rows
from ai_stack.database.embedding_models import StoredModel
from ai_stack.database.replica import Replica
from ai_stack.database.search import Shown
from ai_stack.errors import DatabaseUnavailable, InvalidRequest, TooBusy, Unavailable
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.search import (
    Hit,
    Passage,
    SearchAnswer,
    SearchRequest,
    SearchResult,
)
from ai_stack.rerankers import Reranker
from ai_stack.services.embedding import Array, Models
from ai_stack.services.fusion import fuse
from ai_stack.telemetry.metrics import Counted
from ai_stack.vectors import VectorQuery, Vectors, over

DEPTH, SPARE = 1, 8
FUSED_DEPTH, FUSED_ENOUGH = 100, 3000
RERANK_DEPTH = 30
DEEPEST = 2000
PASSAGES = 5
MAX_QUERY = 8192
REPLICA_S = 2.0  # after which the primary is asked
NO_MEANING = "The search by meaning is down; these results were found by their words alone."
NO_RERANK = "The reranker is down or busy; these results are in the order of the search."


@dataclass(frozen=True, slots=True)
class Found:
    """Hits in order, and what had to be left out."""

    hits: Sequence[Hit]
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    database: Database
    models: Models
    vectors: Vectors
    cache: Cache
    reranker: Reranker | None
    hybrid_weight: float
    ttl_s: int
    counted: Counted = field(default_factory=Counted)
    replica: Replica | None = None

    async def search(self, request: SearchRequest, principal: Principal) -> SearchAnswer:
        """The best documents with the passages that were found in them.

        Scores are cosine similarities for `semantic`, sums of word rarities for `keyword`,
        shares of 1 for `hybrid`, the reranker's own with `rerank`. When the embedder or the
        vector engine is down, words alone answer and `degraded` says so; a search by vector
        alone raises VectorsUnavailable.
        """
        principal.require(Scope.READ)
        _check(request)
        started, told = time.perf_counter(), "failed"
        try:
            answer = await self._answer(request, principal, started)
            told = "degraded" if answer.degraded else "cached" if answer.cached else "found"
            return answer
        finally:
            took_s = time.perf_counter() - started
            self.counted.searches.observe(took_s, request.mode, told)

    async def _answer(
        self, request: SearchRequest, principal: Principal, started: float
    ) -> SearchAnswer:
        generation = await self._generation(request, principal)
        key = await self._cache_key(request, principal, generation)
        if self.replica is not None:
            read = await self._at_replica(self.replica, request, principal, key, generation)
            if read is not None:
                return replace(read, took_ms=_since_ms(started))
        return await self._read(request, principal, key, started)

    async def _at_replica(
        self,
        replica: Replica,
        request: SearchRequest,
        principal: Principal,
        key: str | None,
        generation: str | None,
    ) -> SearchAnswer | None:
        """The answer by what the replica has; None where it is behind, or does not give one."""
        database = replica.at(generation)
        if database is None:
            self.counted.replica_searches.add("behind")
            return None
        elsewhere = replace(self, database=database, vectors=over(self.vectors, database))
        try:
            async with asyncio.timeout(REPLICA_S):
                answer = await elsewhere._read(request, principal, key, 0)
        except (DatabaseUnavailable, TimeoutError):
            replica.failed()
            self.counted.replica_searches.add("failed")
            return None
        self.counted.replica_searches.add("read")
        return answer

    async def _read(
        self, request: SearchRequest, principal: Principal, key: str | None, started: float
    ) -> SearchAnswer:
        found = await self._cached(key)
        cached = found is not None
        if found is None:
            found = await self._find(request, principal)
            await self._keep(key, found)
        results = await self._results(request, principal, found)
        return SearchAnswer(results, _since_ms(started), cached, found.degraded)

    async def generation(self, principal: Principal) -> str | None:
        """What every change to the project's index renews; None while the cache is down."""
        return await self.cache.generation(str(principal.project_id))

    async def question(self, text: str) -> str:
        """What of a text can be searched for: its end, where it is longer than a query may be."""
        text = text.replace("\x00", " ").strip()[-MAX_QUERY:]
        try:
            return await self.models.end_of(text)
        except (Unavailable, TooBusy):
            return text

    async def _find(self, request: SearchRequest, principal: Principal) -> Found:
        """Hits of as many documents as are asked for, looking deeper while they are too few."""
        wanted, depth = request.offset + request.limit, _depth(request)
        found = await self._ranked(request, principal, depth)
        while len(found.hits) >= depth < DEEPEST and len(fold(found.hits)) < wanted:
            depth = min(depth * 4, DEEPEST)
            found = await self._ranked(request, principal, depth)
        return await self._reranked(request, principal, found) if request.rerank else found

    async def _ranked(self, request: SearchRequest, principal: Principal, depth: int) -> Found:
        if request.mode == "keyword":
            return Found(await self._keyword(request, principal, depth))
        if request.mode == "semantic" or request.query is None:
            return await self._semantic(request, principal, depth)
        return await self._hybrid(request, principal, max(depth, FUSED_DEPTH))

    async def _semantic(self, request: SearchRequest, principal: Principal, depth: int) -> Found:
        try:
            return Found(await self._dense(request, principal, depth))
        except (Unavailable, TooBusy):
            if request.query is None:
                raise
            return Found(await self._keyword(request, principal, depth), NO_MEANING)

    async def _hybrid(self, request: SearchRequest, principal: Principal, depth: int) -> Found:
        dense, keyword = await asyncio.gather(
            self._dense(request, principal, depth),
            self._keyword(request, principal, depth, FUSED_ENOUGH),
            return_exceptions=True,
        )
        if isinstance(keyword, BaseException):
            raise keyword
        if isinstance(dense, Unavailable | TooBusy):
            return Found(keyword, NO_MEANING)
        if isinstance(dense, BaseException):
            raise dense
        weight = self.hybrid_weight if request.hybrid_weight is None else request.hybrid_weight
        return Found(fuse(dense, keyword, weight))

    async def _dense(
        self, request: SearchRequest, principal: Principal, depth: int
    ) -> Sequence[Hit]:
        model, vector = await self._vector(request)
        query = VectorQuery(principal.project_id, vector, depth, request.filter)
        return await self.vectors.search(model.model, query)

    async def _vector(self, request: SearchRequest) -> tuple[StoredModel, Array]:
        if request.vector is None:
            return await self.models.query(request.query or "")
        model = await self.models.active()
        if len(request.vector) != model.model.dimensions:
            raise InvalidRequest(f"vector must have {model.model.dimensions} numbers.")
        with np.errstate(over="ignore"):  # the index refuses what is not finite
            return model, np.asarray(request.vector, dtype=np.float32)

    async def _keyword(
        self,
        request: SearchRequest,
        principal: Principal,
        depth: int,
        enough: int = rows.RARE_ENOUGH,
    ) -> Sequence[Hit]:
        return await rows.keyword(
            self.database,
            principal.project_id,
            request.query or "",
            depth,
            request.filter,
            enough=enough,
        )

    async def _reranked(self, request: SearchRequest, principal: Principal, found: Found) -> Found:
        """The first hits in the order of the reranker, block by block; the rest are dropped.

        A block never depends on the page that is asked for, so that pages do not overlap.
        """
        if self.reranker is None:
            raise InvalidRequest("rerank needs AI_STACK_RERANK_URL to be set.")
        if request.query is None:
            raise InvalidRequest("rerank needs a query.")
        first = _blocks(found.hits, request.offset + request.limit)
        shown = await rows.show(self.database, principal.project_id, [h.chunk_id for h in first])
        texts = {s.chunk_id: s.text for s in shown}
        asked = [texts[h.chunk_id] for h in first if h.chunk_id in texts]
        try:
            given = iter(await self.reranker.rerank(request.query, asked))
        except (Unavailable, TooBusy):
            return Found(found.hits, found.degraded or NO_RERANK)
        scored = [replace(h, score=next(given)) if h.chunk_id in texts else None for h in first]
        best: list[Hit] = []
        for begin in range(0, len(scored), RERANK_DEPTH):
            block = [hit for hit in scored[begin : begin + RERANK_DEPTH] if hit is not None]
            best += sorted(block, key=lambda hit: -hit.score)
        return Found(best, found.degraded)

    async def _results(
        self, request: SearchRequest, principal: Principal, found: Found
    ) -> list[SearchResult]:
        """The asked-for page of documents, as they are now."""
        hits = [h for h in found.hits if request.min_score is None or h.score >= request.min_score]
        groups, wanted = fold(hits), request.offset + request.limit
        results: list[SearchResult] = []
        while groups and len(results) < wanted:
            # Some may have gone since they were found: then the next ones move up.
            part, groups = groups[: wanted - len(results)], groups[wanted - len(results) :]
            results += await self._shown(request, principal, part)
        return results[request.offset :]

    async def _shown(
        self, request: SearchRequest, principal: Principal, groups: Sequence[Sequence[Hit]]
    ) -> list[SearchResult]:
        ids = [hit.chunk_id for group in groups for hit in group]
        shown = await rows.show(self.database, principal.project_id, ids, request.filter)
        by_chunk = {s.chunk_id: s for s in shown}
        return [r for group in groups if (r := _result(group, by_chunk)) is not None]

    async def _generation(self, request: SearchRequest, principal: Principal) -> str | None:
        """The project's generation where the cache or the replica goes by it."""
        if self.replica is None and (self.ttl_s == 0 or request.query is None):
            return None
        return await self.generation(principal)

    async def _cache_key(
        self, request: SearchRequest, principal: Principal, generation: str | None
    ) -> str | None:
        if generation is None or self.ttl_s == 0 or request.query is None:
            return None
        model = await self.models.active()
        plain = repr((request, model.model.key, self.hybrid_weight)).encode()
        return f"search:{principal.project_id}:{generation}:{hashlib.sha256(plain).hexdigest()}"

    async def _cached(self, key: str | None) -> Found | None:
        value = None if key is None else await self.cache.get(key)
        if value is None:
            return None
        return Found([Hit(UUID(c), UUID(d), s) for c, d, s in orjson.loads(value)])

    async def _keep(self, key: str | None, found: Found) -> None:
        """Keep which chunks were found, never their text: what is shown is read anew."""
        if key is not None and found.degraded is None:
            plain = [(h.chunk_id, h.document_id, h.score) for h in found.hits]
            await self.cache.set(key, orjson.dumps(plain), self.ttl_s)


def _since_ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


def fold(hits: Sequence[Hit]) -> list[list[Hit]]:
    """Hits grouped by document, the best document first, its best PASSAGES hits in order."""
    groups = defaultdict[UUID, list[Hit]](list)
    for hit in hits:
        if len(groups[hit.document_id]) < PASSAGES:
            groups[hit.document_id].append(hit)
    return list(groups.values())


def _result(group: Sequence[Hit], shown: dict[UUID, Shown]) -> SearchResult | None:
    passages = [
        Passage(s.text, s.start, s.end, hit.score)
        for hit in group
        if (s := shown.get(hit.chunk_id)) is not None
    ]
    if not passages:
        return None
    document = next(shown[h.chunk_id].document for h in group if h.chunk_id in shown)
    return SearchResult(document, passages[0].score, passages)


def _blocks(hits: Sequence[Hit], wanted: int) -> Sequence[Hit]:
    """As many blocks of RERANK_DEPTH hits as have the wanted number of documents."""
    for end in range(RERANK_DEPTH, len(hits), RERANK_DEPTH):
        if len(fold(hits[:end])) >= wanted:
            return hits[:end]
    return hits


def _depth(request: SearchRequest) -> int:
    depth = (request.offset + request.limit) * DEPTH + SPARE
    if request.rerank:  # whole blocks, the same ones for every page
        depth += -depth % RERANK_DEPTH
    return min(depth, DEEPEST)


def _check(request: SearchRequest) -> None:
    if (request.query is None) == (request.vector is None) and request.vector is None:
        raise InvalidRequest("A search needs a query or a vector.")
    if request.query is not None and not 1 <= len(request.query.strip()) <= MAX_QUERY:
        raise InvalidRequest(f"query must have 1 to {MAX_QUERY} characters.")
    if request.query is not None and "\x00" in request.query:
        raise InvalidRequest("query has a NUL character.")
    if not 1 <= request.limit <= 100 or not 0 <= request.offset <= 900:
        raise InvalidRequest("limit is 1 to 100 and offset 0 to 900.")
    if request.mode == "keyword" and request.query is None:
        raise InvalidRequest("A keyword search needs a query.")
