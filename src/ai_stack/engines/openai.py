"""Any server of OpenAI's API: `http(s)://host/v1`, its key as `https://:KEY@host/v1`."""

from collections.abc import Coroutine, Sequence

from ai_stack.engines.http import Answer
from ai_stack.engines.listing import entries, served
from ai_stack.engines.origin import Origin
from ai_stack.engines.wire import Wire
from ai_stack.errors import Unsupported
from ai_stack.models.inference import Body, Call, Operation, ServedModel, Tokens

PATHS: dict[Operation, str] = {
    "chat": "/chat/completions",
    "completion": "/completions",
    "embedding": "/embeddings",
    "rerank": "/rerank",
}


class OpenAIEngine:
    """Calls go through as they are; of its models it tells what the server lists."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @property
    def name(self) -> str:
        return self._wire.name

    async def models(self) -> Sequence[ServedModel]:
        return [served(entry) for entry in entries(await self._wire.ask("/models"))]

    def send(self, call: Call) -> Coroutine[None, None, Answer]:
        return self._wire.open(PATHS[call.operation], call.encoded, call.trace)

    async def tokens(self, model: str, subject: str | Sequence[object] | Body) -> Tokens:
        raise Unsupported("The engine of this model does not tell its tokens.")

    async def aclose(self) -> None:
        await self._wire.aclose()


def open_backend(url: str) -> OpenAIEngine:
    return OpenAIEngine(Wire(Origin.of(url)))
