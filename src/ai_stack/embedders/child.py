"""The embedder's own process: sockets on the event loop, models on threads.

Passages run on `--threads` threads of lower priority, queries on one of their own, so that a
search neither waits for an import's batch nor loses the core to it. Pairs to rerank run on
`--threads` more, before passages and behind queries.
"""

import argparse
import asyncio
import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_stack.channel import ChannelServer
from ai_stack.embedders.backlog import Backlog, Job, Request
from ai_stack.embedders.pairs import PairSession
from ai_stack.embedders.reranking import Reranking
from ai_stack.embedders.session import Session
from ai_stack.embedders.shelf import Shelf
from ai_stack.embedders.texts import check_lengths, readable
from ai_stack.errors import AIStackError, EmbedderUnavailable, TooBusy

Answer = tuple[Mapping[str, Any], bytes]
Run = Callable[[Sequence[Any]], npt.NDArray[np.float32]]

BATCH_TOKENS = 256
PASSAGE_TOKENS, QUERY_TOKENS = 1 << 16, 1 << 13
ADMITTED_CHARACTERS = 64 << 20
INLINE_CHARACTERS = 2_000
PAIR_NICENESS, PASSAGE_NICENESS, LEAST_PRIORITY = 2, 5, 19

METHODS = ("open", "ping", "embed", "spans", "decoded")

log = logging.getLogger("ai_stack.embedder")


@dataclass
class Engine:
    """The models that are loaded, and the lanes that their work goes through."""

    shelf: Shelf[Session]
    reranking: Reranking
    threads: int
    passages: Backlog = field(default_factory=lambda: Backlog(PASSAGE_TOKENS, BATCH_TOKENS))
    queries: Backlog = field(default_factory=lambda: Backlog(QUERY_TOKENS, BATCH_TOKENS))
    _tokenizing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _spanning: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _admitted: int = 0

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        workers = [
            Worker(self.queries, self._run, loop, 0),
            *[Worker(self.reranking.lane, self.reranking.run, loop, PAIR_NICENESS)] * self.threads,
            *[Worker(self.passages, self._run, loop, PASSAGE_NICENESS)] * self.threads,
        ]
        for worker in workers:
            threading.Thread(target=worker.run, daemon=True).start()

    async def open(self, header: Mapping[str, Any], body: bytes) -> Answer:
        """Load a model unless it is loaded, and tell what it is."""
        session = await self.shelf.opened(header["model"])
        return {"model": asdict(session.model)}, b""

    async def ping(self, header: Mapping[str, Any], body: bytes) -> Answer:
        if self.shelf.busy:
            raise EmbedderUnavailable("The embedder is still loading its model.")
        return {"models": list(self.shelf.loaded), "waiting_tokens": self.passages.tokens}, b""

    async def embed(self, header: Mapping[str, Any], body: bytes) -> Answer:
        """Rows of little-endian float32, one for each of `texts`."""
        session = await self.shelf.opened(header["model"])
        query = header["kind"] == "query"
        texts = [session.model.prefixed(t, header["kind"]) for t in readable(header["texts"])]
        with self._admission(texts):
            ids = await self._tokens(session, texts, inline=query)
            check_lengths([*map(len, ids)], session.model.max_tokens, header.get("first", 0))
            request = Request(len(texts), session.model.dimensions)
            jobs = [Job(request, i, header["model"], tokens) for i, tokens in enumerate(ids)]
            (self.queries if query else self.passages).put(jobs)
            rows = await request.done if jobs else request.rows
        return {"rows": len(rows)}, rows.astype("<f4", copy=False).tobytes()

    async def spans(self, header: Mapping[str, Any], body: bytes) -> Answer:
        """`counts` tokens a text; the body holds little-endian int32 pairs of all of them."""
        session = await self.shelf.opened(header["model"])
        texts = readable(header["texts"])
        loop = asyncio.get_running_loop()
        with self._admission(texts):
            found = [
                await loop.run_in_executor(self._spanning, session.spans, text) for text in texts
            ]
        body = b"".join(one.astype("<i4", copy=False).tobytes() for one in found)
        return {"counts": [len(one) for one in found]}, body

    async def decoded(self, header: Mapping[str, Any], body: bytes) -> Answer:
        """The texts of lists of token ids."""
        session = await self.shelf.opened(header["model"])
        return {"texts": session.decoded(header["tokens"])}, b""

    def _run(self, batch: Sequence[Job]) -> npt.NDArray[np.float32]:
        return self.shelf.loaded[batch[0].model].run([job.ids for job in batch])

    async def _tokens(
        self, session: Session, texts: Sequence[str], *, inline: bool
    ) -> list[list[int]]:
        if inline and sum(map(len, texts)) <= INLINE_CHARACTERS:
            return session.tokens(texts)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizing, session.tokens, texts)

    @contextmanager
    def _admission(self, texts: Sequence[str]) -> Iterator[None]:
        characters = sum(map(len, texts))
        if self._admitted and self._admitted + characters > ADMITTED_CHARACTERS:
            raise TooBusy
        self._admitted += characters
        try:
            yield
        finally:
            self._admitted -= characters


@dataclass(frozen=True, slots=True)
class Worker:
    """A thread that runs batches of one lane and hands the rows back to the event loop."""

    backlog: Backlog
    compute: Run
    loop: asyncio.AbstractEventLoop
    niceness: int

    def run(self) -> None:
        # On top of the process' own, since only an administrator may go below that.
        nice = min(LEAST_PRIORITY, os.getpriority(os.PRIO_PROCESS, 0) + self.niceness)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        while True:
            self._once(self.backlog.take())

    def _once(self, batch: Sequence[Job]) -> None:
        try:
            rows = self.compute(batch)
        except Exception:
            log.exception("a batch of %d texts failed", len(batch))
            self.loop.call_soon_threadsafe(_fail, batch)
        else:
            self.loop.call_soon_threadsafe(_fulfil, batch, rows)


def _fulfil(batch: Sequence[Job], rows: npt.NDArray[np.float32]) -> None:
    for job, row in zip(batch, rows, strict=True):
        job.request.fulfil(job.index, row)


def _fail(batch: Sequence[Job]) -> None:
    for job in batch:
        job.request.fail(EmbedderUnavailable("The embedder could not run this model."))


def _load(name: str, cache: Path) -> Session:
    # The settings and the downloader are loaded only for a model that is not built in.
    weights = importlib.import_module("ai_stack.embedders.weights")
    descriptions = importlib.import_module("ai_stack.embedders.descriptions")
    if name == descriptions.MINILM.name:
        description, fetch = descriptions.MINILM, None
    else:
        description, fetch = importlib.import_module("ai_stack.embedders.hub").configured(name)
    found = weights.prepare(description, cache, fetch)
    return Session(description.model(found.sha256), found.onnx, found.tokenizer)


def _load_pairs(name: str, cache: Path) -> PairSession:
    weights = importlib.import_module("ai_stack.embedders.weights")
    hub = importlib.import_module("ai_stack.embedders.hub")
    description, fetch = hub.configured_cross_encoder(name)
    found = weights.prepare(description, cache, fetch)
    return PairSession(description, found.onnx, found.tokenizer)


async def serve(socket: Path, models: Sequence[str], engine: Engine) -> None:
    """Serve until cancelled; raises the error of a model that cannot be loaded."""
    engine.start()
    handlers = {name: getattr(engine, name) for name in METHODS}
    handlers["rerank"] = engine.reranking.rerank
    server = asyncio.create_task(ChannelServer(handlers).serve(socket))
    for name in models:
        await engine.open({"model": name}, b"")
    await server


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ai_stack.embedders.child")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True, help="may be given twice")
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    parser.add_argument("--cache", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    threads = given.threads or len(os.sched_getaffinity(0))
    shelf = Shelf(lambda name: _load(name, given.cache))
    reranking = Reranking(lambda name: _load_pairs(name, given.cache))
    engine = Engine(shelf, reranking, threads)
    try:
        asyncio.run(serve(given.socket, given.model, engine))
    except AIStackError as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
