"""One shard of Qdrant's engine; it knows nothing of what other shards hold.

Every call holds the GIL until it is done, and the engine raises bare `Exception`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import qdrant_edge as engine

from ai_stack.errors import VectorsUnavailable
from ai_stack.vectors import Rows

# Below FEW points a scan is exact and takes less than 2 ms.
FEW = 5_000
EF, EF_FILTERED, OVERSAMPLING = 64, 128, 3.0
TERMS, FIELDS_BY_ID = "t", ("p", "d")


@dataclass(frozen=True, slots=True)
class ShardQuery:
    """A search of one shard; `must` begins with the project, `filters` says that more follows."""

    vector: Sequence[float]
    conditions: Mapping[str, Any]
    limit: int
    filters: bool = False
    linked: bool = True
    exact: bool = False
    settle: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    chunk_id: UUID
    document_id: str
    score: float
    stored: str | None


@contextmanager
def engine_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the engine has no class of its own
        if type(error) is not Exception:
            raise
        raise VectorsUnavailable("The vector engine refused an operation.") from error


class Shard:
    """An open folder of points; only one process can have it open."""

    def __init__(self, path: Path, shard: engine.EdgeShard) -> None:
        self.path = path
        self._shard = shard
        self.points = shard.info().points_count
        self.unflushed = 0

    @classmethod
    def create(cls, path: Path, dimensions: int, fields: Sequence[str] = ()) -> "Shard":
        path.mkdir(parents=True)
        with engine_errors():
            shard = cls(path, engine.EdgeShard.create(str(path), configuration(dimensions)))
        for field in FIELDS_BY_ID:
            tenant = engine.UuidIndexParams(is_tenant=field == "p", enable_hnsw=False)
            shard._apply(engine.UpdateOperation.create_field_index(field, tenant))
        links = engine.IntegerIndexParams(lookup=True, range=False, enable_hnsw=True)
        shard._apply(engine.UpdateOperation.create_field_index(TERMS, links))
        present = engine.IntegerIndexParams(lookup=True, range=False, enable_hnsw=False)
        shard._apply(engine.UpdateOperation.create_field_index("e", present))
        for field in fields:
            shard.index(field)
        return shard

    @classmethod
    def load(cls, path: Path, config: engine.EdgeConfig | None = None) -> "Shard":
        with engine_errors():
            return cls(path, engine.EdgeShard.load(str(path), config))

    def index(self, field: str) -> None:
        """Index a numeric field; about 8 µs a point that the shard holds."""
        order = engine.FloatIndexParams(enable_hnsw=False)
        self._apply(engine.UpdateOperation.create_field_index(field, order))

    def upsert(self, ids: Sequence[str], payloads: Sequence[Mapping[str, Any]], rows: Rows) -> None:
        points = [
            engine.Point(i, row, dict(p))
            for i, row, p in zip(ids, rows.tolist(), payloads, strict=True)
        ]
        self._apply(engine.UpdateOperation.upsert_points(points))
        self.unflushed += len(points)
        self._recount()

    def discard(self, ids: Sequence[str]) -> list[str]:
        """Delete these points where they are present; which were."""
        with engine_errors():
            present = self._shard.retrieve(list(ids), with_payload=False, with_vector=False)
        if present:
            self._apply(engine.UpdateOperation.delete_points([p.id for p in present]))
            self.unflushed += len(present)
            self._recount()
        return [str(p.id) for p in present]

    def has(self, conditions: Mapping[str, Any]) -> bool:
        """Whether any point is of this kind."""
        with engine_errors():
            return self._shard.count(engine.CountRequest(filter=_filter(conditions))) > 0

    def discard_where(self, conditions: Mapping[str, Any]) -> None:
        if not self.has(conditions):
            return
        chosen = _filter(conditions)
        self._apply(engine.UpdateOperation.delete_points_by_filter(chosen))
        self.unflushed += 1
        self._recount()

    def search(self, query: ShardQuery) -> list[Found]:
        chosen = _filter(query.conditions)
        with engine_errors():
            found = self._shard.query(
                engine.QueryRequest(
                    limit=query.limit,
                    query=engine.Query.Nearest(list(query.vector)),
                    filter=chosen,
                    with_payload=["d", "m"] if query.settle else ["d"],
                    params=self._plan(query, chosen),
                )
            )
        return [_found(point) for point in found]

    def _plan(self, query: ShardQuery, chosen: engine.Filter) -> engine.SearchParams:
        """Scan what is little; walk neighbours of neighbours where the graph has no such edges.

        It has edges within a term's points, none within a project's or a range's.
        """
        count = self._estimate(chosen)
        if query.exact or count <= FEW:
            return _exactly()
        project = engine.Filter(must=[_condition(query.conditions["must"][0])])
        mine = self._estimate(project) if query.filters else count
        half = self.points // 2
        return engine.SearchParams(
            hnsw_ef=max(EF_FILTERED if query.filters else EF, query.limit),
            quantization=engine.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING),
            acorn=engine.AcornSearchParams(
                enable=mine < half or (not query.linked and count < half), max_selectivity=0.6
            ),
        )

    def _estimate(self, chosen: engine.Filter) -> int:
        return self._shard.count(engine.CountRequest(exact=False, filter=chosen))

    def page(self, after: str | None, limit: int, everything: bool = False) -> list[engine.Record]:
        """The next points by id, from `after` on, itself included."""
        request = engine.ScrollRequest(
            offset=after,
            limit=limit,
            with_payload=True if everything else ["d", "p"],
            with_vector=everything,
        )
        with engine_errors():
            return self._shard.scroll(request)[0]

    def optimize(self) -> None:
        """Build the graph: minutes, in which the whole process stands still."""
        with engine_errors():
            self._shard.optimize()

    def flush(self) -> None:
        """Let go of the write-ahead log, which has kept the points safe since their update."""
        with engine_errors():
            self._shard.flush()
        self.unflushed = 0

    def close(self) -> None:
        with engine_errors():
            self._shard.close()

    def _apply(self, operation: engine.UpdateOperation) -> None:
        with engine_errors():
            self._shard.update(operation)

    def _recount(self) -> None:
        self.points = self._shard.info().points_count


def _exactly() -> engine.SearchParams:
    return engine.SearchParams(
        exact=True, quantization=engine.QuantizationSearchParams(ignore=True)
    )


def _found(point: engine.ScoredPoint) -> Found:
    payload = point.payload or {}
    chunk_id = point.id if isinstance(point.id, UUID) else UUID(str(point.id))
    return Found(chunk_id, payload["d"], point.score, payload.get("m"))


def configuration(dimensions: int, threads: int = 1) -> engine.EdgeConfig:
    """int8 beside float32: half the time of a walk; the nearest are scored again in float32."""
    return engine.EdgeConfig(
        vectors=engine.EdgeVectorParams(size=dimensions, distance=engine.Distance.Dot),
        hnsw_config=_graph(dimensions, threads),
        quantization_config=engine.ScalarQuantizationConfig(
            type=engine.ScalarType.Int8, always_ram=True
        ),
        optimizers=engine.EdgeOptimizersConfig(
            default_segment_number=1, indexing_threshold=1000, max_segment_size=1 << 30
        ),
        max_search_threads=1,
        payload_memory=engine.Memory.Cached,
    )


def _graph(dimensions: int, threads: int) -> engine.HnswIndexConfig:
    """Terms of more than about 1,300 points get edges of their own (the threshold is in KB)."""
    return engine.HnswIndexConfig(
        m=16,
        ef_construct=100,
        full_scan_threshold=5 * dimensions,
        max_indexing_threads=threads,
    )


def _filter(conditions: Mapping[str, Any]) -> engine.Filter:
    clauses = {name: [_condition(c) for c in conditions[name]] for name in conditions}
    return engine.Filter(clauses.get("must"), clauses.get("should"), clauses.get("must_not"))


def _condition(condition: Mapping[str, Any]) -> "engine.ConditionType":
    if "has_id" in condition:
        return engine.HasIdCondition({UUID(i) for i in condition["has_id"]})
    if "range" in condition:
        return engine.FieldCondition(
            condition["key"], range=engine.RangeFloat(**condition["range"])
        )
    if "match" in condition:
        match = condition["match"]
        test = engine.MatchAny(match["any"]) if "any" in match else engine.MatchValue(**match)
        return engine.FieldCondition(condition["key"], match=test)
    return _filter(condition)
