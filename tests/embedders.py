"""Embedders for tests: the real child, and a small /v1/embeddings server on loopback."""

import asyncio
import base64
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import orjson

from ai_stack.embedders import Embedder, open_embedder
from ai_stack.embedders.memory import MemoryEmbedder
from ai_stack.settings import Settings

MINILM = "all-MiniLM-L6-v2"
CACHE = Path(tempfile.gettempdir()) / f"ai-stack-test-embedder-{os.getuid()}"


def settings(url: str, **fields: object) -> Settings:
    given = {"data_dir": "/nowhere", "config_dir": "/nowhere", "embedder_url": url, **fields}
    return Settings.model_validate(given)


@asynccontextmanager
async def child(
    *arguments: str, models: Sequence[str] = (MINILM,), cache: Path = CACHE, **variables: str
) -> AsyncIterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A running child: its socket and its process."""
    with tempfile.TemporaryDirectory(prefix="ai-stack-") as folder:
        socket = Path(folder) / "embedder.sock"
        named = [word for model in models for word in ("--model", model)]
        command = [sys.executable, "-m", "ai_stack.embedders.child", "--socket", str(socket)]
        process = subprocess.Popen(
            [*command, *named, "--cache", str(cache), *arguments],
            stderr=subprocess.PIPE,
            env={**os.environ, **variables},
        )
        try:
            await _appears(socket, process)
            yield socket, process
        finally:
            process.terminate()
            process.communicate(timeout=10)


async def _appears(socket: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not socket.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(url: str, model: str = MINILM, **fields: object) -> AsyncIterator[Embedder]:
    embedder = await open_embedder(settings(url, **fields), model)
    try:
        yield embedder
    finally:
        await embedder.aclose()


class EmbeddingServer:
    """Answers /v1/embeddings with a memory embedder, and with `replies` first."""

    def __init__(self, embedder: MemoryEmbedder, encoding: str = "base64") -> None:
        self.embedder, self.encoding = embedder, encoding
        self.replies: list[bytes] = []
        self.requests: list[dict[str, object]] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
            body = await reader.readexactly(length)
            writer.write(self.replies.pop(0) if self.replies else await self._answer(head, body))
            await writer.drain()
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"get"):
            model = {"id": self.embedder.model.name, "max_model_len": 256}
            return reply(200, {"data": [model]})
        request = orjson.loads(body)
        self.requests.append(request)
        rows = await self.embedder.embed([t.strip() for t in request["input"]], "passage")
        data = [{"index": i, "embedding": self._coded(row)} for i, row in enumerate(rows)]
        return reply(200, {"object": "list", "data": data[::-1], "model": request["model"]})

    def _coded(self, row: np.ndarray) -> object:
        return (
            base64.b64encode(row.tobytes()).decode() if self.encoding == "base64" else row.tolist()
        )


def reply(status: int, body: object, *headers: str) -> bytes:
    content = orjson.dumps(body)
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content
