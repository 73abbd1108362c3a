"""Calls that rerank, in the embedder's process: pairs of a query and passages, in a lane."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ai_stack.embedders.backlog import Backlog, Job, Request
from ai_stack.embedders.pairs import Pair, PairSession
from ai_stack.embedders.shelf import Shelf
from ai_stack.embedders.texts import readable
from ai_stack.errors import EmbedderUnavailable

Scored = tuple[Mapping[str, Any], bytes]

BATCH_TOKENS = 256
PAIR_TOKENS = 1 << 16
LOAD_WAIT_S, RETRY_S = 2.0, 30.0


@dataclass(frozen=True, slots=True, eq=False)
class PairJob(Job):
    """One pair of a request."""

    types: Sequence[int]


@dataclass
class Reranking:
    """The cross-encoders that are loaded, and the lane that their pairs wait in.

    A lane of its own: thirty passages take as long as hundreds of queries, and a search that
    does not rerank must not wait for one that does.
    """

    load: Callable[[str], PairSession]
    lane: Backlog = field(default_factory=lambda: Backlog(PAIR_TOKENS, BATCH_TOKENS))
    shelf: Shelf[PairSession] = field(init=False)
    _pairing: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.load, RETRY_S)

    async def rerank(self, header: Mapping[str, Any], body: bytes) -> Scored:
        """Little-endian float32, one for each of `texts`: how well it answers `query`.

        Only the end of a passage is cut, and only of a pair that is longer than the model
        reads. While `model` is being fetched, EmbedderUnavailable says so after two seconds.
        """
        session = await self._opened(header["model"])
        query, *texts = readable([header["query"], *header["texts"]])
        loop = asyncio.get_running_loop()
        pairs = await loop.run_in_executor(self._pairing, session.pairs, query, texts)
        request = Request(len(pairs), 1)
        self.lane.put(
            [PairJob(request, i, header["model"], p.ids, p.types) for i, p in enumerate(pairs)]
        )
        scores = await request.done if pairs else request.rows
        return {"scores": len(scores)}, scores.astype("<f4", copy=False).tobytes()

    async def _opened(self, name: str) -> PairSession:
        try:
            async with asyncio.timeout(LOAD_WAIT_S):
                return await self.shelf.opened(name)
        except TimeoutError:
            raise EmbedderUnavailable("The reranker is still loading its model.") from None

    def run(self, batch: Sequence[PairJob]) -> npt.NDArray[np.float32]:
        """The scores of a batch, shape (len(batch), 1)."""
        session = self.shelf.loaded[batch[0].model]
        return session.run([Pair(job.ids, job.types) for job in batch])
