"""All points of one model: a big shard with a graph, and small fresh ones that take the writes.

    layout.json   which folders count; replaced in one step, so a crash leaves the old or the new
    shard-<n>/    the engine's own files

A search asks every shard and merges. A deletion goes to every shard. When enough is fresh, a
builder process copies the shards (writes wait for that second, searches do not), merges them and
builds the graph, while this process goes on with a new fresh shard; then the result is swapped
in, after the deletions of the meantime have been repeated on it.
"""

import asyncio
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from ai_stack.errors import StorageFull, VectorsUnavailable
from ai_stack.vectors import Rows
from ai_stack.vectors.edge_shard import Found, Shard, ShardQuery

log = logging.getLogger("ai_stack.vectors")

SLICE = 100
IDLE_POINTS, IDLE_S = 2_000, 5.0
CALM_POINTS = 10_000
STREAM_POINTS, STREAM_PER_S = 100_000, 100  # so many are scanned in 13 ms
FLUSH_POINTS, FLUSH_S = 5_000, 5.0
INDEX_NOW_POINTS, MAX_FIELDS = 20_000, 24
RESERVE_BYTES = 96 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """`shards` from the oldest to the one that takes the writes; `built` has the graph.

    `stained`: the files hold points that were deleted and may not stay there.
    """

    dimensions: int
    shards: tuple[str, ...]
    built: str | None = None
    fields: tuple[str, ...] = ()
    next: int = 1
    stained: bool = False

    @classmethod
    def read(cls, file: Path) -> "Layout":
        raw = orjson.loads(file.read_bytes())
        return cls(**raw | {"shards": tuple(raw["shards"]), "fields": tuple(raw["fields"])})

    def write(self, file: Path) -> None:
        beside = file.with_suffix(".new")
        with beside.open("wb") as out:
            out.write(orjson.dumps(asdict(self)))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)


@dataclass
class Collection:
    """One model's shards; all methods belong to one event loop."""

    folder: Path
    layout: Layout
    shards: list[Shard]
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _discards: list[Callable[[Shard], object]] | None = None
    _written_s: float = 0.0
    _arrived: int = 0
    _counted_s: float = field(default_factory=time.monotonic)
    _streamed_s: float = float("-inf")
    _flushed_s: float = 0.0
    _unindexed: bool = False
    _erasures: int = 0
    _erased: set[str] = field(default_factory=set)

    @classmethod
    def create(cls, folder: Path, dimensions: int) -> "Collection":
        folder.mkdir(parents=True, exist_ok=True)
        collection = cls(folder, Layout(dimensions, ()), [])
        collection._add_fresh()
        return collection

    @classmethod
    def open(cls, folder: Path) -> "Collection":
        """Open what the layout names; whatever else lies there is a build that never finished."""
        layout = Layout.read(folder / "layout.json")
        for path in folder.glob("shard-*"):
            if path.name not in layout.shards:
                shutil.rmtree(path)
        shards = [_opened(folder / name, layout) for name in layout.shards]
        return cls(folder, layout, shards)

    @property
    def points(self) -> int:
        return sum(s.points for s in self.shards)

    async def upsert(
        self, ids: Sequence[str], payloads: Sequence[Mapping[str, Any]], rows: Rows
    ) -> None:
        """Add points to the fresh shard, then take what they replace out of the older ones."""
        if shutil.disk_usage(self.folder).free < RESERVE_BYTES:
            raise StorageFull
        async with self._writing:
            for i in range(0, len(ids), SLICE):
                part = slice(i, i + SLICE)
                self.shards[-1].upsert(ids[part], payloads[part], rows[part])
                self._discard(ids[part])
                await asyncio.sleep(0)  # a search goes between
        self._arrived += len(ids)
        self._written_s = time.monotonic()

    def _discard(self, ids: Sequence[str]) -> None:
        present = [i for shard in self.shards[:-1] for i in shard.discard(ids)]
        if present and self._discards is not None:
            self._discards.append(lambda shard: shard.discard(present))

    async def delete_where(self, conditions: Mapping[str, Any]) -> None:
        async with self._writing:
            for shard in self.shards:
                shard.discard_where(conditions)
            if self._discards is not None:
                self._discards.append(lambda shard: shard.discard_where(conditions))
        self._written_s = time.monotonic()

    async def erase_where(self, conditions: Mapping[str, Any]) -> None:
        """Delete points, and have the upkeep write anew, without them, what held them.

        Asked again, where none have come since, it does nothing.
        """
        if repr(conditions) in self._erased and not any(s.has(conditions) for s in self.shards):
            return
        self._erased.add(repr(conditions))
        async with self._writing:
            self._save(replace(self.layout, stained=True))
        self._erasures += 1
        await self.delete_where(conditions)

    async def search(self, query: ShardQuery, fields: Sequence[str] = ()) -> list[Found]:
        """The nearest of all shards, best first; a point that two hold counts in the newer."""
        if not set(fields) <= set(self.layout.fields):
            await self._index(fields)
        found: dict[Any, Found] = {}
        for shard in self.shards:
            if shard.points:
                found.update((f.chunk_id, f) for f in shard.search(query))
        return sorted(found.values(), key=lambda f: -f.score)[: query.limit]

    async def _index(self, fields: Sequence[str]) -> None:
        """Index newly asked fields: at once in a small shard, by the next build in a large one."""
        async with self._writing:
            new = [f for f in fields if f not in self.layout.fields]
            if not new or len(self.layout.fields) + len(new) > MAX_FIELDS:
                return
            for shard in self.shards:
                if shard.points > INDEX_NOW_POINTS:
                    self._unindexed = True
                    continue
                for name in new:
                    shard.index(name)
            self._save(replace(self.layout, fields=(*self.layout.fields, *new)))

    def page(self, after: str | None, limit: int) -> list[tuple[str, str, str]]:
        """The next points by id from `after` on, itself included: (chunk, document, project)."""
        records = {str(r.id): r for s in self.shards for r in s.page(after, limit)}
        chosen = [(i, records[i].payload or {}) for i in sorted(records)[:limit]]
        return [(i, payload["d"], payload["p"]) for i, payload in chosen]

    async def maintain(self) -> None:
        """Flush now and then, and rebuild when it is time."""
        idle = time.monotonic() - self._written_s > IDLE_S
        unflushed = sum(s.unflushed for s in self.shards)
        late = time.monotonic() - self._flushed_s > FLUSH_S
        if unflushed > FLUSH_POINTS or (unflushed and late):
            await self.flush()
        self._count_arrivals()
        if self._due(idle):
            await self.rebuild()

    def _count_arrivals(self) -> None:
        """Notice a stream of points: many in the time since this was last called."""
        now = time.monotonic()
        if self._arrived > STREAM_PER_S * (now - self._counted_s):
            self._streamed_s = now
        self._arrived, self._counted_s = 0, now

    async def flush(self) -> None:
        async with self._writing:
            for shard in self.shards:
                if shard.unflushed:
                    shard.flush()
                    await asyncio.sleep(0)
        self._flushed_s = time.monotonic()

    def _due(self, idle: bool) -> bool:
        fresh = sum(s.points for s in self.shards if s.path.name != self.layout.built)
        if self.layout.stained or (self._unindexed and idle):
            return True
        return fresh >= self._tolerated(self.points - fresh, idle)

    def _tolerated(self, built: int, idle: bool) -> int:
        """How many points may be without a graph.

        Many while they stream in, since a build would take the processors from the stream.
        """
        if idle:
            return IDLE_POINTS + built // 50
        streaming = time.monotonic() - self._streamed_s < IDLE_S
        return (STREAM_POINTS if streaming else CALM_POINTS) + built // 2

    async def rebuild(self) -> None:
        """Have all shards merged and their graph built, and swap the result in."""
        async with self._writing:
            erasures, stained = self._erasures, self.layout.stained
            sources, target = await self._sealed()
            self._discards = []
            builder = await self._start_builder(target, sources)
        try:
            if await builder.wait() != 0:
                raise VectorsUnavailable("The builder of the vector index failed.")
            await self._swap(target, sources)
            if stained and erasures == self._erasures:
                self._save(replace(self.layout, stained=False))
        finally:
            self._discards = None
            if builder.returncode is None:
                builder.kill()
                await builder.wait()
            if target.name not in self.layout.shards:
                _remove(target, *self.folder.glob(f"{target.name}.*"))

    async def _sealed(self) -> tuple[list[Shard], Path]:
        """What a build is made of, flushed and beside an empty fresh shard, and its folder."""
        if self.shards[-1].points or self.layout.stained:
            self._add_fresh()
            for name in self.layout.fields:
                self.shards[-1].index(name)
                await asyncio.sleep(0)
        for shard in self.shards[:-1]:
            shard.flush()
            await asyncio.sleep(0)
        number = self.layout.next
        self._save(replace(self.layout, next=number + 1))
        return self.shards[:-1], self._path(number)

    async def _start_builder(
        self, target: Path, sources: Sequence[Shard]
    ) -> asyncio.subprocess.Process:
        """Start it, and return when it has copied the sources."""
        threads = len(os.sched_getaffinity(0))
        options = [o for s in sources for o in ("--source", str(s.path))]
        options += [o for f in self.layout.fields for o in ("--field", f)]
        options += ["--afresh"] * self.layout.stained
        numbers = map(str, (os.getpid(), self.layout.dimensions, threads))
        builder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ai_stack.vectors.edge_builder"),
            *(*numbers, str(target), *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        assert builder.stdout is not None
        await builder.stdout.readline()  # empty when it died: seen by the caller's wait
        return builder

    async def _swap(self, target: Path, sources: Sequence[Shard]) -> None:
        async with self._writing:
            built = Shard.load(target)
            for discard in self._discards or ():
                discard(built)
            built.flush()
            self.shards = [built, *self.shards[len(sources) :]]
            names = tuple(s.path.name for s in self.shards)
            self._save(replace(self.layout, shards=names, built=target.name))
            self._unindexed = False
        for shard in sources:
            await asyncio.sleep(0)
            shard.close()
            await asyncio.to_thread(shutil.rmtree, shard.path)
        log.info("built the graph of %d points in %s", built.points, target)

    def _add_fresh(self) -> None:
        path = self._path(self.layout.next)
        _remove(path)
        self.shards.append(Shard.create(path, self.layout.dimensions))
        names = (*self.layout.shards, path.name)
        self._save(replace(self.layout, shards=names, next=self.layout.next + 1))

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number}"

    def _save(self, layout: Layout) -> None:
        layout.write(self.folder / "layout.json")
        self.layout = layout

    def close(self) -> None:
        for shard in self.shards:
            with suppress(VectorsUnavailable):
                shard.flush()
                shard.close()


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _opened(path: Path, layout: Layout) -> Shard:
    """A shard that cannot be read is set aside: the index is derived, and reindexing heals it."""
    try:
        return Shard.load(path)
    except VectorsUnavailable:
        log.exception("%s cannot be read and is set aside; run `ai-stack reindex`", path)
        aside = path.with_name(f"broken-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        if path.exists():
            path.rename(aside)
        return Shard.create(path, layout.dimensions, layout.fields)
