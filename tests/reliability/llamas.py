"""Real llama.cpp servers with tiny models: to speak, to call, to rank, to babble."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gguf import Shape, write_chat, write_reranker
from reliability.clients import Client
from reliability.grounds import end, until
from stacks import free_port

TINY, SPEAKER, CALLER, RANKER = "tiny", "speaker", "caller", "reranker"
CONTEXT = 512
SAID = "Paris is the capital of France."
CALLED = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


@contextmanager
def llamas(folder: Path) -> Iterator[list[str]]:
    """All four, by their URLs; `tiny` has a context of CONTEXT tokens."""
    shape = Shape(context=CONTEXT)
    files = {
        TINY: write_chat(folder / "tiny.gguf", shape=shape),
        SPEAKER: write_chat(folder / "speaker.gguf", say=SAID),
        CALLER: write_chat(folder / "caller.gguf", say=CALLED),
        RANKER: write_reranker(folder / "reranker.gguf"),
    }
    started = [_llama(name, file, free_port()) for name, file in files.items()]
    try:
        yield [url for url, _ in started]
    finally:
        for _, process in started:
            end(process)


def _llama(name: str, file: Path, port: int) -> tuple[str, "subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "ai_stack.supervisor.llama_server", "-m", str(file)]
    command += ["--alias", name, "--port", str(port), "-np", "2", "-t", "1", "--jinja", "-lv", "0"]
    command += [
        "-c",
        str(2 * (CONTEXT if name in (TINY, RANKER) else 4096)),
        "--slots",
        "--metrics",
    ]
    command += ["--reranking"] if name == RANKER else []
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    return f"llama-cpp://127.0.0.1:{port}", process


async def listens(url: str) -> None:
    """Wait until a server has loaded its model."""
    client = Client(int(url.rpartition(":")[2]), timeout_s=2)

    async def ready() -> bool:
        return (await client.request("GET", "/health")).ok

    await until(ready, 30)
    client.close()
