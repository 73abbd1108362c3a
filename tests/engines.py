"""Engines for tests: servers that do as they are told, and the real llama.cpp on tiny models."""

import asyncio
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import orjson

import gguf
from ai_stack.channel import ChannelServer
from ai_stack.engines import Reply
from ai_stack.engines.memory import NAME, MemoryEngine, counted
from ai_stack.errors import AIStackError, ContextTooLong, ModelNotFound
from ai_stack.models.inference import Call, Operation

CONTEXT = 8192
SAYING = "The quick brown fox jumps over the lazy dog."
PATHS: dict[str, Operation] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
    "/v1/rerank": "rerank",
}


def call(operation: Operation, **body: object) -> Call:
    return Call(operation, body, orjson.dumps(body))


async def whole(reply: Reply) -> bytes:
    """All of a body, closed as the contract asks."""
    try:
        return b"".join([part async for part in reply])
    finally:
        await reply.aclose()


def events(body: bytes) -> list[Any]:
    """The data of each event of a stream, parsed; [DONE] stays a text."""
    lines = [block.removeprefix(b"data: ") for block in body.split(b"\n\n") if block]
    return [line.decode() if line == b"[DONE]" else orjson.loads(line) for line in lines]


@dataclass
class RawServer:
    """Answers each request with the next of `replies`: pieces of bytes, sent one by one.

    A piece that is a number is a pause in seconds; after `closing` replies the connection is
    closed. With no reply left it stays silent.
    """

    replies: list[list[bytes | float]] = field(default_factory=list)
    closes: bool = False
    tls: ssl.SSLContext | None = None
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self.tls)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or 0)
                body = await reader.readexactly(length)
                await self._watched(reader, writer, head, body)
                if self.closes:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _watched(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        head: bytes,
        body: bytes,
    ) -> None:
        """Answer, unless the client leaves meanwhile."""
        answer = asyncio.create_task(self.answer(writer, head, body))
        left = asyncio.create_task(_left(reader, writer))
        done, _ = await asyncio.wait((answer, left), return_when=asyncio.FIRST_COMPLETED)
        for task in (answer, left):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if answer not in done:
            raise ConnectionResetError

    async def answer(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        self.requests.append((head, body))
        if not self.replies:
            await asyncio.sleep(3600)
        for piece in self.replies.pop(0):
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)


async def _left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Returns when the client has closed its side; it sends nothing before its answer."""
    while not reader.at_eof() and not writer.is_closing():
        await asyncio.sleep(0.005)


def reply(status: int, body: object, media_type: str = "application/json", *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass
class StandIn(RawServer):
    """Speaks the dialect of a server over a memory engine: what is listed, refused and told."""

    dialect: Literal["vllm", "openai"] = "openai"
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    key: str = ""

    @property
    def url(self) -> str:
        return "vllm://127.0.0.1:{}" if self.dialect == "vllm" else "http://127.0.0.1:{}/v1"

    async def answer(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        if self.replies:
            return await super().answer(writer, head, body)
        self.requests.append((head, body))
        path = head.split(b" ", 2)[1].decode()
        try:
            await self._dispatched(writer, path, orjson.loads(body or b"{}"), body)
        except AIStackError as error:
            writer.write(reply(*self._refusal(error)))
        await writer.drain()
        return None

    async def _dispatched(
        self, writer: asyncio.StreamWriter, path: str, request: Any, body: bytes
    ) -> None:
        if path == "/v1/models":
            listed = [self._listed(model.id) for model in self.engine.served]
            writer.write(reply(200, {"object": "list", "data": listed}))
        elif path == "/tokenize" and self.dialect == "vllm":
            writer.write(reply(200, self._tokenized(request)))
        elif path in PATHS:
            await self._generated(writer, Call(PATHS[path], request, body))
        else:
            writer.write(reply(404, {"detail": "Not Found"}))

    async def _generated(self, writer: asyncio.StreamWriter, call: Call) -> None:
        opened = await self.engine.send(call)
        try:
            if not call.streamed:
                writer.write(reply(200, b"".join([part async for part in opened])))
                return
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            async for part in opened:
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        finally:
            await opened.aclose()

    def _listed(self, name: str) -> dict[str, object]:
        if self.dialect == "openai":
            return {"id": name, "object": "model", "created": 1686935002, "owned_by": "stand-in"}
        return {
            "id": name,
            "object": "model",
            "created": int(time.time() * 1000),
            "owned_by": "vllm",
            "root": "/models/memory",
            "parent": None,
            "max_model_len": CONTEXT,
        }

    def _tokenized(self, request: Mapping[str, Any]) -> dict[str, object]:
        subject = request["prompt"] if "prompt" in request else request["messages"]
        tokens = counted(subject)
        return {"count": len(tokens), "max_model_len": CONTEXT, "tokens": tokens}

    def _refusal(self, error: AIStackError) -> tuple[int, dict[str, object]]:
        status = 404 if isinstance(error, ModelNotFound) else 400
        message, code = error.message, None
        if isinstance(error, ModelNotFound):
            message, code = "The model `other` does not exist.", "model_not_found"
        if isinstance(error, ContextTooLong):
            message, code = TOO_LONG[self.dialect], "context_length_exceeded"
        told = {"message": message, "type": "BadRequestError", "param": None}
        return status, {"error": {**told, "code": status if self.dialect == "vllm" else code}}


TOO_LONG = {
    "vllm": f"This model's maximum context length is {CONTEXT} tokens. However, your request has "
    "20000 input tokens. Please reduce the length of the input messages.",
    "openai": f"This model's maximum context length is {CONTEXT} tokens. However, your messages "
    "resulted in 20000 tokens. Please reduce the length of the messages.",
}


@contextmanager
def llama_cpp(
    kind: Literal["chat", "says", "embedder", "reranker"] = "chat",
    *,
    slots: int = 2,
    say: str = SAYING,
) -> Iterator[str]:
    """The base URL of a real llama.cpp server with a tiny model named `memory`."""
    with tempfile.TemporaryDirectory(prefix="ai-stack-engine-") as folder:
        file, port = Path(folder) / "model.gguf", free_port()
        flags = _made(kind, file, say)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ai_stack.supervisor.llama_server"),
                *("--model", str(file), "--alias", NAME, "--port", str(port), "--threads", "1"),
                *("--ctx-size", str(CONTEXT * slots), "--parallel", str(slots)),
                *("--slots", "--jinja", "--no-webui", *flags),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            _ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _made(kind: str, file: Path, say: str) -> list[str]:
    if kind == "embedder":
        gguf.write_embedder(file)
        return ["--embeddings"]
    if kind == "reranker":
        gguf.write_reranker(file)
        return ["--reranking"]
    shape = gguf.Shape(context=CONTEXT, width=256, layers=6)  # 1,500 tokens/s: time to leave
    gguf.write_chat(file, say=say if kind == "says" else None, shape=shape)
    return []


def _ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def busy_slots(url: str) -> int:
    async with httpx.AsyncClient() as client:
        slots = (await client.get(f"{url}/slots")).json()
    return sum(slot["is_processing"] for slot in slots)


async def settles(count: Callable[[], Any], value: int = 0, timeout_s: float = 1.5) -> bool:
    """Whether a count comes to a value in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = count()
        if (await found if asyncio.iscoroutine(found) else found) == value:
            return True
        await asyncio.sleep(0.01)
    return False


@dataclass
class Host:
    """The host of models as far as an engine sees it: `url` serves the model once it is asked."""

    url: str
    state: str = "stopped"
    served: list[str] = field(default_factory=list)
    refusal: AIStackError | None = None

    async def list(self, header: Mapping[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        ready = {"url": self.url} if self.state == "ready" else {}
        fields = {"file": "/models/m.gguf", "size_bytes": 7, "context_length": CONTEXT}
        model = {"id": NAME, "state": self.state, "kind": "generation", "slots": 2, "revision": "r"}
        coming = {"id": "coming", "file": "", "size_bytes": 0, "state": "downloading"}
        return {"models": [{**model, **fields, **ready}, coming]}, b""

    async def serve(
        self, header: Mapping[str, Any], body: bytes
    ) -> tuple[Mapping[str, Any], bytes]:
        if self.refusal is not None:
            raise self.refusal
        if header["model"] != NAME:
            raise ModelNotFound
        self.served.append(header["model"])
        self.state = "ready"
        return {"url": self.url}, b""

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[str]:
        socket_ = folder / "models.sock"
        server = ChannelServer({"list": self.list, "serve": self.serve})
        task = asyncio.create_task(server.serve(socket_))
        while not socket_.exists():
            assert not task.done(), task.result()
            await asyncio.sleep(0.01)
        try:
            yield f"llama-cpp://{socket_}"
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
