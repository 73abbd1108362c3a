"""The embedding models in use: which one answers, which are kept in step beside it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ai_stack.database import Database
from ai_stack.database import embedding_models as rows
from ai_stack.database.embedding_models import StoredModel
from ai_stack.embedders import Embedder
from ai_stack.errors import EmbedderUnavailable, InvalidRequest
from ai_stack.models.embedding import EmbeddingModel, TextKind
from ai_stack.telemetry.metrics import Counted

Array = npt.NDArray[np.float32]
OpenEmbedder = Callable[[str | None], Awaitable[Embedder]]

SPECIAL_TOKENS = 2
SPARE_TOKENS = 8  # a text that begins within a word may have a few more than as part of another
PASSAGE_TOKENS = 256
REFRESH_S, QUERY_S = 2.0, 5.0


@dataclass
class Models:
    """Embedders by model, opened when first needed; the models' states are the database's.

    Another process may switch the active model: states are read again every REFRESH_S.
    """

    database: Database
    open_embedder: OpenEmbedder
    counted: Counted = field(default_factory=Counted)
    _embedders: dict[str, Embedder] = field(default_factory=dict)
    _stored: Sequence[StoredModel] = ()
    _read_at: float = float("-inf")
    _opening: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def active(self) -> StoredModel:
        """The model that searches use; the configured one becomes it on an empty database."""
        found = rows.active(await self.stored())
        return found if found is not None else await self._first()

    async def stored(self) -> Sequence[StoredModel]:
        """The models in use, the active one among them."""
        now = asyncio.get_running_loop().time()
        if self._stored and now - self._read_at <= REFRESH_S:
            return self._stored
        before, self._read_at = self._read_at, now  # meanwhile others go on with what is known
        try:
            self._stored = await rows.known(self.database)
        except BaseException:
            self._read_at = before
            raise
        return self._stored

    def forget(self) -> None:
        """Read the states again at the next use."""
        self._read_at = float("-inf")

    async def _first(self) -> StoredModel:
        model = (await self.configured()).model
        async with self.database.transaction(None) as tx:
            await rows.add(tx, model, "active")
        self.forget()
        found = rows.active(await self.stored())
        if found is None:
            raise EmbedderUnavailable
        return found

    async def configured(self) -> Embedder:
        """The embedder of the model that the settings name."""
        return await self._open(None)

    async def named(self, name: str) -> Embedder:
        """The embedder of a model that may have no vectors yet."""
        return await self._open(name)

    async def embedder(self, model: EmbeddingModel) -> Embedder:
        """The embedder of a stored model; EmbedderUnavailable when other weights serve its name."""
        opened = await self._open(model.name)
        if opened.model.key != model.key:
            raise EmbedderUnavailable(
                f"The embedder serves {opened.model.key}, the vectors are of {model.key}."
            )
        return opened

    async def _open(self, name: str | None) -> Embedder:
        """Opened once; one that takes long, for a download, keeps no other model waiting."""
        key = name or ""
        async with self._opening[key]:
            if key not in self._embedders:
                self._embedders[key] = await self.open_embedder(name)
            return self._embedders[key]

    async def query(self, text: str) -> tuple[StoredModel, Array]:
        """The active model, and a query's vector by it."""
        try:
            async with asyncio.timeout(QUERY_S):
                model = await self.active()
                embedder = await self.embedder(model.model)
                return model, (await self._embed(embedder, [text], "query"))[0]
        except TimeoutError as error:
            raise EmbedderUnavailable from error

    async def end_of(self, text: str) -> str:
        """The end of a text, as much of it as the active model takes for a query."""
        model = (await self.active()).model
        room = model.max_tokens - SPECIAL_TOKENS - len(model.query_prefix.encode()) - SPARE_TOKENS
        if len(text.encode()) <= room:
            return text
        (spans,) = await (await self.embedder(model)).spans([text])
        return text if len(spans) <= room else text[int(spans[-room, 0]) :]

    async def passages(self, model: EmbeddingModel, texts: Sequence[str]) -> Array:
        """One vector a passage, rounded to the half floats that the database keeps.

        A passage that was cut for a model with room for more is embedded in parts, and their
        mean stands for it: nothing is left out.
        """
        embedder = await self.embedder(model)
        try:
            return halved(await self._embed(embedder, texts, "passage"))
        except InvalidRequest:  # one is too long, as cut for another tokenizer, or not cut at all
            return await self._parted(embedder, texts)

    async def _embed(self, embedder: Embedder, texts: Sequence[str], kind: TextKind) -> Array:
        began, outcome = time.perf_counter(), "failed"
        try:
            vectors = await embedder.embed(texts, kind)
            outcome = "ok"
            self.counted.embedded_texts.add(kind, by=len(texts))
            return vectors
        finally:
            self.counted.embeddings.observe(time.perf_counter() - began, kind, outcome)

    async def _parted(self, embedder: Embedder, texts: Sequence[str]) -> Array:
        parts, owners = await self._parts(embedder, texts)
        vectors = await self._embed(embedder, parts, "passage")
        sums = np.zeros((len(texts), embedder.model.dimensions), np.float32)
        np.add.at(sums, owners, vectors)
        return halved(normalised(sums))

    async def _parts(
        self, embedder: Embedder, texts: Sequence[str]
    ) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The texts, those that are too long cut at tokens, and which text each is of."""
        room = whole(embedder.model)
        parts: list[str] = []
        owners: list[int] = []
        for owner, (text, spans) in enumerate(zip(texts, await embedder.spans(texts), strict=True)):
            cuts = [0, *spans[room::room, 0].tolist(), len(text)]
            parts += [text[a:b] for a, b in pairwise(cuts)]
            owners += [owner] * (len(cuts) - 1)
        return parts, np.array(owners, dtype=np.int64)

    async def ping(self) -> str:
        """Return what answers when the active model's embedder serves."""
        active = await self.active()
        await (await self.embedder(active.model)).ping()
        return active.model.key

    async def aclose(self) -> None:
        for embedder in self._embedders.values():
            await embedder.aclose()


def budget(model: EmbeddingModel) -> int:
    """The tokens of a passage: what the model takes, of long models no more than of short ones."""
    return min(whole(model), PASSAGE_TOKENS - SPECIAL_TOKENS)


def whole(model: EmbeddingModel) -> int:
    """The tokens of the longest passage that a model takes."""
    return model.max_tokens - SPECIAL_TOKENS - len(model.passage_prefix.encode())


def halved(vectors: Array) -> Array:
    """Vectors as a half-precision column gives them back, so that every index has the same."""
    return vectors.astype(np.float16).astype(np.float32)


def normalised(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Array = vectors / np.maximum(lengths, 1e-12)
    return result
