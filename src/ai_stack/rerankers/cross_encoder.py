"""A cross-encoder in the embedder's process: `cross-encoder:BAAI/bge-reranker-base`."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from ai_stack.channel import Channel
from ai_stack.errors import SettingsError
from ai_stack.settings import Settings

TIMEOUT_S = 10.0


class CrossEncoder:
    """Asks the process at `socket` to score with `model`, which it loads when first asked."""

    def __init__(self, socket: Path, model: str) -> None:
        self._channel = Channel(socket, timeout_s=TIMEOUT_S)
        self._model = model

    async def rerank(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        """As the door says; raises InvalidRequest for a query of half the model's tokens.

        A passage that is too long for the model beside the query is read as far as it goes.
        """
        texts = [_readable(passage) for passage in passages]
        _, body = await self._channel.call(
            "rerank", model=self._model, query=_readable(query), texts=texts
        )
        scores: list[float] = np.frombuffer(body, "<f4").tolist()
        return scores

    async def aclose(self) -> None:
        await self._channel.aclose()


def _readable(text: str) -> str:
    """Lone surrogates, which JSON cannot carry, as question marks."""
    return text.encode(errors="replace").decode()


def open_backend(settings: Settings) -> CrossEncoder:
    """Raises SettingsError where embeddings do not come from the stack's own process."""
    assert settings.rerank_url is not None
    embedder = urlsplit(settings.embedder_url.get_secret_value())
    if embedder.scheme != "onnx" or not embedder.path:
        raise SettingsError(
            "AI_STACK_RERANK_URL: a cross-encoder: runs in the embedder's process, so that "
            "AI_STACK_EMBEDDER_URL must be the stack's own, onnx:."
        )
    model = urlsplit(settings.rerank_url).path
    if not model:
        raise SettingsError("AI_STACK_RERANK_URL names no model: cross-encoder:NAME.")
    return CrossEncoder(Path(unquote(embedder.path)), model)
