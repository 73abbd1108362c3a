"""The door to rerankers, which read query and passage together: an engine's /v1/rerank."""

import importlib
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from ai_stack.errors import SettingsError
from ai_stack.settings import Settings


class Reranker(Protocol):
    """Scores passages for a query."""

    async def rerank(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        """One score a passage, higher for the better; raises Unavailable."""

    async def aclose(self) -> None: ...


def open_reranker(settings: Settings) -> Reranker | None:
    """The reranker of `rerank_url`; None where none is set."""
    if settings.rerank_url is None:
        return None
    if urlsplit(settings.rerank_url).scheme not in ("http", "https"):
        raise SettingsError("AI_STACK_RERANK_URL must be the http(s) URL of a /v1/rerank.")
    remote: Reranker = importlib.import_module(f"{__name__}.remote").RemoteReranker(settings)
    return remote
