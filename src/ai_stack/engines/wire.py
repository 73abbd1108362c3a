"""JSON over one engine's HTTP: what comes back is an answer of status 200, or one of our errors."""

from typing import Any

import orjson

from ai_stack.engines.http import Answer, Client
from ai_stack.engines.origin import Origin
from ai_stack.engines.refusals import refusal
from ai_stack.errors import AIStackError, ContextTooLong, EngineFailed
from ai_stack.models.traces import Place

MAX_REFUSAL_BYTES = 64 << 10
CARRIERS = {  # the field of a request that its tokens come from, by the end of its path
    "/chat/completions": "messages",
    "/completions": "prompt",
    "/embeddings": "input",
    "/rerank": "documents",
}
MEDIA_TYPES = ("application/json", "text/event-stream")


class Wire:
    """Asks one engine; every refusal is raised as what it means."""

    def __init__(self, origin: Origin) -> None:
        self.name = origin.name
        self._client = Client(origin)

    async def open(self, path: str, encoded: bytes, trace: Place | None = None) -> Answer:
        """The answer to a POST as it begins; whoever opened it closes it."""
        answer = await self._client.post(path, encoded, trace)
        if answer.status == 200 and answer.media_type in MEDIA_TYPES:
            return answer
        error = await _refused(answer)
        if isinstance(error, ContextTooLong):
            error.fields = {_carrier(path): "too long"}
        raise error

    async def ask(self, path: str, body: object = None) -> Any:
        """The whole JSON answer to a GET, or to a POST of `body`."""
        if body is None:
            answer = await self._client.get(path)
        else:
            answer = await self._client.post(path, orjson.dumps(body))
        if answer.status != 200:
            raise await _refused(answer)
        return await parsed(answer)

    async def offers(self, path: str) -> bool:
        """Whether an operation is there, by how an empty request of it is refused."""
        answer = await self._client.post(path, b"{}")
        try:
            if answer.status in (200, 400, 422):
                return True
            if answer.status in (404, 405, 501):
                return False
            raise await _refused(answer)
        finally:
            answer.abort()

    async def aclose(self) -> None:
        await self._client.aclose()


async def parsed(answer: Answer) -> Any:
    """The whole body as JSON; EngineFailed when it is none."""
    try:
        return orjson.loads(await answer.read())
    except ValueError as error:
        raise strange() from error
    finally:
        answer.abort()


def strange() -> EngineFailed:
    return EngineFailed("The engine's answer is not of the form that is expected.")


def _carrier(path: str) -> str:
    return next((field for end, field in CARRIERS.items() if path.endswith(end)), "messages")


async def _refused(answer: Answer) -> AIStackError:
    try:
        if answer.status == 200:
            return strange()
        return refusal(answer.status, await answer.read(MAX_REFUSAL_BYTES))
    finally:
        answer.abort()
