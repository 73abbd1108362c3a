"""The process that owns Qdrant's engine, since its calls hold the GIL; it knows no filter language.

python -m ai_stack.vectors.edge_child --socket PATH --data DIR
"""

import argparse
import asyncio
import logging
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

import numpy as np
import uvloop

from ai_stack.channel import ChannelServer, Handler
from ai_stack.errors import AIStackError, InvalidRequest
from ai_stack.vectors.edge_collection import Collection
from ai_stack.vectors.edge_shard import ShardQuery

log = logging.getLogger("ai_stack.vectors")

MAINTENANCE_S, RETRY_S = 1.0, 60.0
DROPPED = ".dropped"
Reply = tuple[Mapping[str, Any], bytes]


class EdgeEngine:
    """The collections of a data folder, one for each model, behind the channel's handlers."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.collections: dict[str, Collection] = {}
        self._upkeep: dict[str, asyncio.Task[None]] = {}

    def open(self) -> None:
        """Open what is there; an index that cannot be read is set aside, since it is derived."""
        self.data.mkdir(parents=True, exist_ok=True)
        for dropped in self.data.glob(f"*{DROPPED}"):
            shutil.rmtree(dropped)
        for layout in sorted(self.data.glob("*/layout.json")):
            try:
                self._keep(unquote(layout.parent.name), Collection.open(layout.parent))
            except (ValueError, TypeError, KeyError):
                log.exception("%s cannot be read; run `ai-stack reindex`", layout)
                layout.replace(layout.with_suffix(".broken"))

    async def close(self) -> None:
        for model in list(self._upkeep):
            await self._release(model)

    def handlers(self) -> dict[str, Handler]:
        names = ("ping", "upsert", "delete", "erase", "search", "scan", "drop")
        return {name: getattr(self, name) for name in names}

    async def ping(self, header: Mapping[str, Any], body: bytes) -> Reply:
        return {"points": {name: c.points for name, c in self.collections.items()}}, b""

    async def upsert(self, header: Mapping[str, Any], body: bytes) -> Reply:
        """Points as header `ids` and `payloads` and, in the body, float32 rows."""
        ids, size = header["ids"], header["dimensions"]
        collection = self._collection(header["model"], size)
        if collection.layout.dimensions != size or len(body) != 4 * size * len(ids):
            raise InvalidRequest("These vectors do not have the length of their index's.")
        rows = np.frombuffer(body, dtype="<f4").reshape(len(ids), size)
        await collection.upsert(ids, header["payloads"], rows)
        return {}, b""

    async def delete(self, header: Mapping[str, Any], body: bytes) -> Reply:
        if (collection := self.collections.get(header["model"])) is not None:
            await collection.delete_where(_scoped(header))
        return {}, b""

    async def erase(self, header: Mapping[str, Any], body: bytes) -> Reply:
        """Begin to delete points with all that files still hold of them; whether that is done."""
        collection = self.collections.get(header["model"])
        if collection is None:
            return {"done": True}, b""
        if header["begin"]:
            await collection.erase_where(_scoped(header))
        return {"done": not collection.layout.stained}, b""

    async def search(self, header: Mapping[str, Any], body: bytes) -> Reply:
        """Hits as rows of chunk, document, score and, where ties are to be settled, metadata."""
        collection = self.collections.get(header["model"])
        if collection is None:
            return {"hits": []}, b""
        if len(body) != 4 * collection.layout.dimensions:
            raise InvalidRequest("The vector does not have the length of its index's.")
        query = ShardQuery(
            np.frombuffer(body, dtype="<f4").tolist(),
            _scoped(header),
            header["limit"],
            filters=bool(header["must"]),
            linked=header["linked"],
            exact=header["exact"],
            settle=header["settle"],
        )
        found = await collection.search(query, header["fields"])
        return {"hits": [(f.chunk_id, f.document_id, f.score, f.stored) for f in found]}, b""

    async def scan(self, header: Mapping[str, Any], body: bytes) -> Reply:
        collection = self.collections.get(header["model"])
        if collection is None:
            return {"points": []}, b""
        return {"points": collection.page(header["after"], header["limit"])}, b""

    async def drop(self, header: Mapping[str, Any], body: bytes) -> Reply:
        if header["model"] in self.collections:
            # What is written from now on begins a new folder, which is none of ours.
            folder = self._folder(header["model"])
            aside = folder.rename(folder.with_name(f"{uuid4().hex}{DROPPED}"))
            await self._release(header["model"])
            await asyncio.to_thread(shutil.rmtree, aside)
        return {}, b""

    def _collection(self, model: str, dimensions: int) -> Collection:
        if model not in self.collections:
            folder = self._folder(model)
            shutil.rmtree(folder, ignore_errors=True)  # what could not be read
            self._keep(model, Collection.create(folder, dimensions))
        return self.collections[model]

    def _folder(self, model: str) -> Path:
        return self.data / quote(model, safe="@ ")

    def _keep(self, model: str, collection: Collection) -> None:
        self.collections[model] = collection
        self._upkeep[model] = asyncio.create_task(_maintain(collection))

    async def _release(self, model: str) -> None:
        upkeep, collection = self._upkeep.pop(model), self.collections.pop(model)
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)
        collection.close()


def _scoped(header: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's conditions within its project: without one there is no request."""
    project = {"key": "p", "match": {"value": header["project"]}}
    return {"must": [project, *header["must"]]}


async def _maintain(collection: Collection) -> None:
    while True:
        await asyncio.sleep(MAINTENANCE_S)
        try:
            await collection.maintain()
        except (AIStackError, OSError):
            log.exception("the upkeep of %s failed", collection.folder)
            await asyncio.sleep(RETRY_S)


async def serve(socket: Path, data: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    engine = EdgeEngine(data)
    engine.open()
    serving = asyncio.create_task(ChannelServer(engine.handlers()).serve(socket))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        await asyncio.gather(serving, return_exceptions=True)
    finally:
        await engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ai_stack.vectors.edge_child")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvloop.run(serve(given.socket, given.data))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
