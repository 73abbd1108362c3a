"""The door to embedding models: a backend is the scheme of a URL.

onnx:///run/embedder.sock    ONNX Runtime in a child process (the default)
http(s)://host/v1            any server of OpenAI's /v1/embeddings
memory:                      hashed words in this process, for unit tests
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ai_stack.models.embedding import EmbeddingModel, TextKind


class Embedder(Protocol):
    """Turns text into vectors. Raises EmbedderUnavailable, or TooBusy when its queue is full."""

    @property
    def model(self) -> EmbeddingModel:
        """What it runs."""

    async def embed(self, texts: Sequence[str], kind: TextKind) -> npt.NDArray[np.float32]:
        """One L2-normalised row a text, shape (len(texts), model.dimensions).

        Queries go before passages. A text over `model.max_tokens` raises InvalidRequest:
        nothing is cut silently.
        """

    async def spans(self, texts: Sequence[str]) -> Sequence[npt.NDArray[np.int32]]:
        """The tokens of each whole text as (start, end) code point offsets, shape (tokens, 2)."""

    async def ping(self) -> None:
        """Return when it serves."""

    async def aclose(self) -> None: ...
