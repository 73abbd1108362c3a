"""Any server of OpenAI's /v1/embeddings: `http(s)://host/v1`. Its tokenizer is unknown here."""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import orjson

from ai_stack.embedders.descriptions import find
from ai_stack.embedders.texts import check_lengths, readable
from ai_stack.errors import EmbedderUnavailable, InvalidRequest, TooBusy, Unsupported
from ai_stack.models.embedding import EmbeddingModel, TextKind
from ai_stack.settings import Settings

BATCH = 64
CONCURRENCY = 4
TRIES = 4
LONGEST_PAUSE_S = 10.0
MAX_TOKENS = 512

# About one token each, rather less: four letters, two digits, or any other sign alone.
_TOKEN = re.compile(r"[A-Za-z]{1,4}|[0-9]{1,2}|[^\sA-Za-z0-9]")


class OpenAIEmbedder:
    """Batches go to the server side by side; 429 and 503 are tried again, a few times."""

    def __init__(
        self, client: httpx.AsyncClient, model: EmbeddingModel, *, pause_s: float = 0.5
    ) -> None:
        self._client, self._model, self._pause_s = client, model, pause_s
        self._batches = asyncio.Semaphore(CONCURRENCY)

    @property
    def model(self) -> EmbeddingModel:
        return self._model

    async def embed(self, texts: Sequence[str], kind: TextKind) -> npt.NDArray[np.float32]:
        ready = readable([self._model.prefixed(text, kind) for text in texts])
        check_lengths([len(_TOKEN.findall(text)) + 2 for text in ready], self._model.max_tokens)
        batches = [ready[start : start + BATCH] for start in range(0, len(ready), BATCH)]
        tasks = [asyncio.create_task(self._batch(batch)) for batch in batches]
        try:
            parts = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return np.concatenate([np.empty((0, self._model.dimensions), np.float32), *parts])

    async def _batch(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        # Several servers refuse an empty text; a space means the same.
        body = {"model": self._model.name, "input": [text or " " for text in texts]}
        async with self._batches:
            answer = await self._asked({**body, "encoding_format": "base64"})
        rows = _rows(answer, len(texts))
        if rows.shape[1] != self._model.dimensions:
            raise EmbedderUnavailable(
                f"The embedding server answers {rows.shape[1]} dimensions; "
                f"{self._model.name} has {self._model.dimensions}."
            )
        return rows

    async def _asked(self, body: dict[str, object]) -> bytes:
        for attempt in range(1, TRIES + 1):
            answer = await self._sent("POST", "embeddings", orjson.dumps(body))
            if answer.status_code not in (429, 503) or attempt == TRIES:
                break
            await asyncio.sleep(_pause_s(answer, self._pause_s * 2 ** (attempt - 1)))
        return _checked(answer).content

    async def _sent(self, method: str, path: str, content: bytes | None = None) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            return await self._client.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise EmbedderUnavailable from error

    async def probed(self) -> EmbeddingModel:
        """The model with the dimensions that the server answers, and the context it tells."""
        rows = _rows(await self._asked({"model": self._model.name, "input": ["probe"]}), 1)
        limit = _context(await self._sent("GET", "models"), self._model.name)
        self._model = replace(self._model, dimensions=rows.shape[1], max_tokens=limit)
        return self._model

    async def spans(self, texts: Sequence[str]) -> Sequence[npt.NDArray[np.int32]]:
        """An estimate on the long side; the true tokenizer is the server's."""
        return [await asyncio.to_thread(_estimated, text) for text in texts]

    async def decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        raise Unsupported("This embedding server takes no tokens from here; send text.")

    async def ping(self) -> None:
        answer = await self._sent("GET", "models")
        if answer.status_code != 404:
            _checked(answer)

    async def aclose(self) -> None:
        await self._client.aclose()


def _estimated(text: str) -> npt.NDArray[np.int32]:
    flat = np.fromiter((n for found in _TOKEN.finditer(text) for n in found.span()), np.int32)
    return flat.reshape(-1, 2)


def _rows(content: bytes, count: int) -> npt.NDArray[np.float32]:
    """L2-normalised rows in the order of the texts, from base64 or lists of numbers."""
    try:
        data = orjson.loads(content)["data"]
        found = [_vector(one["embedding"]) for one in sorted(data, key=lambda one: one["index"])]
        rows = np.stack(found)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise _strange() from error
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) if rows.ndim == 2 else np.zeros(1)
    if rows.ndim != 2 or len(rows) != count or not np.isfinite(lengths).all() or not lengths.all():
        raise _strange()
    normalised: npt.NDArray[np.float32] = rows / lengths
    return normalised


def _vector(value: Any) -> npt.NDArray[np.float32]:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
    return np.asarray(value, np.float32)


def _strange() -> EmbedderUnavailable:
    return EmbedderUnavailable("The embedding server's answer is not of OpenAI's form.")


def _checked(answer: httpx.Response) -> httpx.Response:
    status = answer.status_code
    if status in (400, 413, 422):
        raise InvalidRequest("The embedding server refuses a text; it may be too long for it.")
    if status in (401, 403):
        raise EmbedderUnavailable("The embedding server refuses AI_STACK_EMBEDDER_API_KEY.")
    if status == 429:
        raise TooBusy
    if status != 200:
        raise EmbedderUnavailable
    return answer


def _pause_s(answer: httpx.Response, default: float) -> float:
    told = answer.headers.get("retry-after", "")
    return min(float(told) if told.isdigit() else default, LONGEST_PAUSE_S)


def _context(answer: httpx.Response, name: str) -> int:
    """The longest input as llama.cpp, vLLM and others tell it, else 512 tokens."""
    try:
        entry = next(one for one in orjson.loads(answer.content)["data"] if one["id"] == name)
        meta = entry.get("meta") or {}
        told = [entry.get("max_model_len"), entry.get("context_length"), meta.get("n_ctx_train")]
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        return MAX_TOKENS
    return next((n for n in told if isinstance(n, int) and n >= 8), MAX_TOKENS)


async def open_backend(settings: Settings, name: str) -> OpenAIEmbedder:
    url = settings.embedder_url.get_secret_value()
    key = settings.embedder_api_key
    client = httpx.AsyncClient(
        base_url=url,
        timeout=httpx.Timeout(60.0, connect=5.0),
        headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
    )
    described = find(name, settings.embedding_description)
    weights = hashlib.sha256(name.encode()).hexdigest()
    if described is not None:
        return OpenAIEmbedder(client, described.model(described.weights or weights))
    embedder = OpenAIEmbedder(client, EmbeddingModel(name, weights, 0, MAX_TOKENS))
    try:
        await embedder.probed()
    except BaseException:
        await client.aclose()
        raise
    return embedder
