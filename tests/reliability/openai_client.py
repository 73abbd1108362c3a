"""The official OpenAI client, with every body read once more by its own models in strict mode.

The client itself does not check types.
"""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import orjson
from openai import AsyncOpenAI
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseItemList, ResponseStreamEvent
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from pydantic import BaseModel, TypeAdapter, ValidationError

from reliability.engines import Gateway


@asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncIterator[tuple[AsyncOpenAI, "Recorder"]]:
    """A client of this gateway, and what is wrong with the answers that it got."""
    recorder = Recorder()
    async with httpx.AsyncClient(transport=recorder) as http:
        url = f"http://127.0.0.1:{gateway.port}/v1"
        yield AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0), recorder


class Recorder(httpx.AsyncHTTPTransport):
    """Reads every body besides the client, and validates it by the client's models."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        stream = answer.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        answer.stream = Recorded(stream, lambda body: self._check(request, answer, body))
        return answer

    def _check(self, request: httpx.Request, answer: httpx.Response, body: bytes) -> None:
        path = request.url.path.removeprefix("/v1")
        try:
            if answer.status_code >= 400:
                _Refused.model_validate_json(body, strict=True)
            elif answer.headers["content-type"].startswith("text/event-stream"):
                _check_events(path, body)
            elif request.method != "DELETE":
                _check_whole(path, body)
        except (ValidationError, AssertionError, ValueError) as error:
            first = " ".join(str(error).split())[:300]
            self.faults.append(f"{path} ({answer.status_code}): {first}")


class Recorded(httpx.AsyncByteStream):
    """A body on its way to the client; told of when it is at its end."""

    def __init__(self, source: httpx.AsyncByteStream, ended: Callable[[bytes], None]) -> None:
        self.source, self.ended, self.body = source, ended, bytearray()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.source:
            self.body += piece
            yield piece
        self.ended(bytes(self.body))

    async def aclose(self) -> None:
        await self.source.aclose()


class _Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class _Refused(BaseModel):
    error: _Error


class _Models(BaseModel):
    object: str
    data: list[Model]


class _Ranked(BaseModel):
    index: int
    relevance_score: float
    document: dict[str, str]


class _Ranking(BaseModel):
    model: str
    results: list[_Ranked]


KINDS: dict[str, type[BaseModel]] = {
    "/chat/completions": ChatCompletion,
    "/completions": Completion,
    "/rerank": _Ranking,
    "/responses/input_tokens": InputTokenCountResponse,
}


def _check_whole(path: str, body: bytes) -> None:
    if path == "/models":
        assert orjson.loads(body)["data"][0]["context_length"]
        _Models.model_validate_json(body, strict=True)
    elif path.startswith("/models/"):
        Model.model_validate_json(body, strict=True)
    elif path == "/embeddings":
        told = orjson.loads(body)
        for item in told["data"]:  # the client's model knows no base64
            item["embedding"] = numbers(item["embedding"])
        CreateEmbeddingResponse.model_validate_json(orjson.dumps(told), strict=True)
    elif path.endswith("/input_items"):
        ResponseItemList.model_validate_json(body, strict=True)
    else:
        KINDS.get(path, Response).model_validate_json(body, strict=True)


def numbers(embedding: str | list[float]) -> list[float]:
    """An embedding in either of its forms."""
    if isinstance(embedding, list):
        return embedding
    return np.frombuffer(base64.b64decode(embedding), "<f4").tolist()


def _check_events(path: str, body: bytes) -> None:
    if path.startswith("/responses"):
        adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
        for event in body.split(b"\n\n"):
            for line in event.split(b"\n"):
                if line.startswith(b"data: {"):
                    adapter.validate_json(line[6:], strict=True)
        return
    *events, end = body.split(b"\n\n")
    assert end == b"", "a stream ends with an empty line"
    assert events[-1] == b"data: [DONE]", "a stream ends with [DONE]"
    for event in events[:-1]:
        if not event.startswith(b":"):
            _check_chunk(path, event.removeprefix(b"data: "))


def _check_chunk(path: str, chunk: bytes) -> None:
    if "chat" in path:
        ChatCompletionChunk.model_validate_json(chunk, strict=True)
        return
    told = orjson.loads(chunk)
    for choice in told["choices"]:  # the client's model is of whole answers, which have one
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    Completion.model_validate_json(orjson.dumps(told), strict=True)
