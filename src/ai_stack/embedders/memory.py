"""An embedder without a model, for tests: texts are alike as far as they share words."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ai_stack.embedders.texts import check_lengths, readable
from ai_stack.models.embedding import EmbeddingModel, TextKind
from ai_stack.settings import Settings

_WORD = re.compile(r"\w+|[^\w\s]")


class MemoryEmbedder:
    """Each word, in lower case, adds a fixed random direction; a token is a word or a sign."""

    def __init__(self, dimensions: int = 384, max_tokens: int = 256, name: str = "memory") -> None:
        weights = hashlib.sha256(f"{name} {dimensions}".encode()).hexdigest()
        self._model = EmbeddingModel(name, weights, dimensions, max_tokens)
        self._words: dict[str, npt.NDArray[np.float32]] = {}

    @property
    def model(self) -> EmbeddingModel:
        return self._model

    async def embed(self, texts: Sequence[str], kind: TextKind) -> npt.NDArray[np.float32]:
        words = [_WORD.findall(text.lower()) for text in readable(texts)]
        check_lengths([len(found) + 2 for found in words], self._model.max_tokens)
        rows = np.empty((len(texts), self._model.dimensions), np.float32)
        for row, found in zip(rows, words, strict=True):
            row[:] = self._start() + sum((self._direction(word) for word in found), np.float32(0))
            row /= np.linalg.norm(row)
        return rows

    def _start(self) -> npt.NDArray[np.float32]:
        """A small part that all texts share, so that an empty one has a vector too."""
        return self._direction("") * np.float32(0.01)

    def _direction(self, word: str) -> npt.NDArray[np.float32]:
        if (known := self._words.get(word)) is None:
            seed = hashlib.sha256(f"{self._model.weights}{word}".encode()).digest()
            random = np.random.default_rng(int.from_bytes(seed[:8], "little"))
            known = random.standard_normal(self._model.dimensions).astype(np.float32)
            self._words[word] = known
        return known

    async def spans(self, texts: Sequence[str]) -> Sequence[npt.NDArray[np.int32]]:
        return [
            np.array([word.span() for word in _WORD.finditer(text)], np.int32).reshape(-1, 2)
            for text in texts
        ]

    async def decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        return [" ".join(map(str, one)) for one in tokens]

    async def ping(self) -> None: ...

    async def aclose(self) -> None: ...


async def open_backend(settings: Settings, model: str) -> MemoryEmbedder:
    return MemoryEmbedder(name=model)
