"""The door to rerankers, which read query and passage together: a backend is a URL's scheme.

http(s)://host/v1/rerank      any engine that has one
cross-encoder:name            a model of the embedder's process: a hub's repository, or its own name
"""

import importlib
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from ai_stack.errors import SettingsError
from ai_stack.settings import Settings

BACKENDS = {"http": "remote", "https": "remote", "cross-encoder": "cross_encoder"}


class Reranker(Protocol):
    """Scores passages for a query."""

    async def rerank(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        """One finite score a passage, higher for the better, on the model's own scale.

        Raises Unavailable when it does not answer, TooBusy when its queue is full.
        """

    async def aclose(self) -> None: ...


def open_reranker(settings: Settings) -> Reranker | None:
    """The reranker of `rerank_url`, None where none is set; connects when first asked."""
    if settings.rerank_url is None:
        return None
    scheme = urlsplit(settings.rerank_url).scheme
    if scheme not in BACKENDS:
        raise SettingsError(
            "AI_STACK_RERANK_URL must be the http(s) URL of a /v1/rerank, or cross-encoder:NAME."
        )
    backend = importlib.import_module(f"{__name__}.{BACKENDS[scheme]}")
    reranker: Reranker = backend.open_backend(settings)
    return reranker
