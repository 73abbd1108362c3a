"""The door to embedding models: a backend is the scheme of a URL.

onnx:///run/embedder.sock    ONNX Runtime in a child process (the default)
http(s)://host/v1            any server of OpenAI's /v1/embeddings
memory:                      hashed words in this process, for unit tests
"""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from ai_stack.errors import SettingsError
from ai_stack.models.embedding import EmbeddingModel, TextKind

if TYPE_CHECKING:
    # At run time this would load pydantic into the child, which keeps its memory small.
    from ai_stack.settings import Settings

BACKENDS = {"onnx": "onnx", "http": "openai", "https": "openai", "memory": "memory"}


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

    async def decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The texts that lists of this model's own token ids stand for.

        Raises Unsupported where the tokens are out of reach.
        """

    async def ping(self) -> None:
        """Return when it serves."""

    async def aclose(self) -> None: ...


async def open_embedder(settings: "Settings", model: str | None = None) -> Embedder:
    """The embedder of `embedder_url` for `model`, by default `embedding_model`.

    Two may be open at once for two models. Raises SettingsError for a URL or model that the
    stack does not know, EmbedderUnavailable when it does not answer.
    """
    scheme = urlsplit(settings.embedder_url.get_secret_value()).scheme
    if scheme not in BACKENDS:
        raise SettingsError(f"AI_STACK_EMBEDDER_URL must begin with one of {', '.join(BACKENDS)}.")
    backend = importlib.import_module(f"{__name__}.{BACKENDS[scheme]}")
    embedder: Embedder = await backend.open_backend(settings, model or settings.embedding_model)
    return embedder
