"""The embedder in a child process, over its socket: `onnx:///run/embedder.sock`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from ai_stack.channel import Channel
from ai_stack.embedders.texts import readable
from ai_stack.errors import EmbedderUnavailable, SettingsError, Unavailable
from ai_stack.models.embedding import EmbeddingModel, TextKind
from ai_stack.settings import Settings

SLICE, SLICES = 32, 2  # of one call at a time: no call waits behind the whole of another
OPEN_TIMEOUT_S = 600.0
EMBED_TIMEOUT_S = 120.0


class OnnxEmbedder:
    """A model of the child; a large call goes in slices, so that its queue has room for others."""

    def __init__(self, channel: Channel, model: EmbeddingModel) -> None:
        self._channel = channel
        self._model = model
        # One for each kind, so that a search does not queue behind an import's slices.

    @classmethod
    async def open(cls, path: Path, name: str) -> "OnnxEmbedder":
        """The child loads `name` when it has not yet, which may take a download."""
        channel = Channel(path)
        try:
            header, _ = await channel.call("open", model=name, timeout_s=OPEN_TIMEOUT_S)
        except Unavailable as error:
            await channel.aclose()
            raise EmbedderUnavailable(error.message) from error
        return cls(channel, EmbeddingModel(**header["model"]))

    @property
    def model(self) -> EmbeddingModel:
        return self._model

    async def embed(self, texts: Sequence[str], kind: TextKind) -> npt.NDArray[np.float32]:
        rows = np.empty((len(texts), self._model.dimensions), np.float32)
        checked = readable(texts)
        slices = range(0, len(texts), SLICE)
        turns = asyncio.Semaphore(SLICES)
        tasks = [
            asyncio.create_task(self._fill(turns, rows, checked, start, kind)) for start in slices
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return rows

    async def _fill(
        self,
        turns: asyncio.Semaphore,
        rows: npt.NDArray[np.float32],
        texts: Sequence[str],
        start: int,
        kind: TextKind,
    ) -> None:
        async with turns:
            part = texts[start : start + SLICE]
            _, body = await self._call("embed", texts=part, kind=kind, first=start)
        rows[start : start + SLICE] = np.frombuffer(body, "<f4").reshape(len(part), -1)

    async def spans(self, texts: Sequence[str]) -> Sequence[npt.NDArray[np.int32]]:
        header, body = await self._call("spans", texts=readable(texts))
        offsets = np.frombuffer(body, "<i4").reshape(-1, 2)
        ends = np.cumsum(header["counts"], dtype=np.int64)
        return np.split(offsets, ends[:-1]) if len(ends) else []

    async def decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        header, _ = await self._call("decoded", tokens=tokens)
        return list(header["texts"])

    async def ping(self) -> None:
        await self._call("ping", timeout_s=2.0)

    async def _call(
        self, method: str, *, timeout_s: float = EMBED_TIMEOUT_S, **arguments: Any
    ) -> tuple[dict[str, Any], bytes]:
        try:
            return await self._channel.call(
                method, timeout_s=timeout_s, model=self._model.name, **arguments
            )
        except Unavailable as error:
            raise EmbedderUnavailable(error.message) from error

    async def aclose(self) -> None:
        await self._channel.aclose()


async def open_backend(settings: Settings, model: str) -> OnnxEmbedder:
    path = urlsplit(settings.embedder_url.get_secret_value()).path
    if not path:
        raise SettingsError("AI_STACK_EMBEDDER_URL names no socket: onnx:///path/embedder.sock.")
    return await OnnxEmbedder.open(Path(unquote(path)), model)
