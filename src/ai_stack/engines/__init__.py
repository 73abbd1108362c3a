"""The door to inference engines: a backend is the scheme of a URL.

llama-cpp:///run/models.sock    llama.cpp servers that the supervised host starts (the default)
llama-cpp://host:8080           one llama.cpp server (llama-cpp+https:// with TLS)
vllm://host:8000                one vLLM server (vllm+https:// with TLS)
http(s)://host/v1               any other server of OpenAI's API; a key as https://:KEY@host/v1
memory:                         answers in this process, for unit tests
"""

import importlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from ai_stack.errors import SettingsError
from ai_stack.models.inference import Body, Call, ServedModel, Tokens

BACKENDS = {
    "llama-cpp": "llama_cpp",
    "llama-cpp+https": "llama_cpp",
    "vllm": "vllm",
    "vllm+https": "vllm",
    "http": "openai",
    "https": "openai",
    "memory": "memory",
}


class Reply(Protocol):
    """An engine's answer with status 200, its body as it comes.

    Iterating raises EngineBroken when the engine breaks off. Whoever opened it closes it; closing
    before the end drops the connection, by which the engine sees that nobody waits any more.
    """

    @property
    def media_type(self) -> str:
        """`application/json` or `text/event-stream`."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class Engine(Protocol):
    """One inference server.

    Every method raises EngineUnavailable when it cannot be reached or says that it is loading,
    TooBusy when it says that it is full, EngineFailed for its own failures (5xx) and for answers
    that are none; what it refuses (4xx) raises InvalidRequest, ContextTooLong or ModelNotFound.
    Deadlines are the caller's, by cancellation, which closes the connection.
    """

    @property
    def name(self) -> str:
        """Where it is, without credentials: for logs and metrics."""

    async def models(self) -> Sequence[ServedModel]:
        """What it serves at this moment; doubles as the probe of its health."""

    async def send(self, call: Call) -> Reply:
        """Have a call answered; returns with the head of the answer."""

    async def tokens(self, model: str, subject: str | Sequence[object] | Body) -> Tokens:
        """The tokens of a text, or by the model's template of chat messages or of a chat
        request, which has tools besides; exact.

        Raises Unsupported for an engine that cannot tell.
        """

    async def aclose(self) -> None: ...


def open_engine(url: str) -> Engine:
    """The engine at a URL; it connects when it is first used."""
    scheme, rest = url.partition(":")[::2]
    if scheme not in BACKENDS:
        raise SettingsError(f"AI_STACK_ENGINES: each must begin with one of {', '.join(BACKENDS)}.")
    hosted = scheme == "llama-cpp" and (rest.startswith("///") or not rest)
    backend = importlib.import_module(f"{__name__}.{'hosted' if hosted else BACKENDS[scheme]}")
    engine: Engine = backend.open_backend(url)
    return engine
