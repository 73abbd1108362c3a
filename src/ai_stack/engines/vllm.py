"""One vLLM server: `vllm://host:8000`, with TLS `vllm+https://host`."""

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace

from ai_stack.engines.http import Answer
from ai_stack.engines.listing import entries, served
from ai_stack.engines.openai import PATHS
from ai_stack.engines.origin import Origin
from ai_stack.engines.wire import Wire, strange
from ai_stack.models.inference import GENERATION, Body, Call, ServedModel, Tokens

PORT = 8000


class VLLMEngine:
    """Calls go through as they are, each with its salt, so that nobody finds out by an answer's
    speed what another has asked; tokens are told by the server's own tokenizer.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._seen: dict[str, int] = {}

    @property
    def name(self) -> str:
        return self._wire.name

    async def models(self) -> Sequence[ServedModel]:
        return [self._steady(entry) for entry in entries(await self._wire.ask("/v1/models"))]

    def _steady(self, entry: Mapping[str, object]) -> ServedModel:
        """With the first time that was told: the server tells the present one each time."""
        model, root = served(entry), entry.get("root")
        created = self._seen.setdefault(model.id, model.created)
        return replace(model, created=created, revision=root if isinstance(root, str) else "")

    def send(self, call: Call) -> Coroutine[None, None, Answer]:
        return self._wire.open("/v1" + PATHS[call.operation], _salted(call), call.trace)

    async def tokens(self, model: str, subject: str | Sequence[object] | Body) -> Tokens:
        told = await self._wire.ask("/tokenize", {"model": model, **_question(subject)})
        tokens = told.get("tokens") if isinstance(told, dict) else None
        if not isinstance(tokens, list):
            raise strange()
        return tokens

    async def aclose(self) -> None:
        await self._wire.aclose()


def _salted(call: Call) -> bytes:
    if not call.salt or call.operation not in GENERATION:
        return call.encoded
    return b'%b,"cache_salt":"%b"}' % (call.encoded[:-1], call.salt.encode())


def _question(subject: str | Sequence[object] | Body) -> dict[str, object]:
    if isinstance(subject, str):
        return {"prompt": subject}
    chat = subject if isinstance(subject, Mapping) else {"messages": subject}
    fields = ("messages", "tools", "chat_template_kwargs")
    return {name: chat[name] for name in fields if chat.get(name) is not None}


def open_backend(url: str) -> VLLMEngine:
    return VLLMEngine(Wire(Origin.of(url, port=PORT)))
