"""A real host of models on a scratch folder, and a way to ask the servers that it starts."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.channel import Channel
from ai_stack.errors import Unavailable
from ai_stack.weights.shelf import FOLDER
from stacks import free_port

STEP_S = 0.02


@dataclass
class Host:
    """One host process; `folder` is its shelf."""

    data: Path
    port: int
    process: "subprocess.Popen[bytes]"
    channel: Channel

    @property
    def folder(self) -> Path:
        return self.data / FOLDER

    @property
    def log(self) -> str:
        return (self.data / "host.log").read_text()

    async def serve(self, model: str) -> str:
        answer, _ = await self.channel.call("serve", model=model)
        return str(answer["url"])

    async def models(self) -> dict[str, dict[str, Any]]:
        answer, _ = await self.channel.call("list")
        return {row["id"]: row for row in answer["models"]}

    async def states(self) -> dict[str, str]:
        return {id: row["state"] for id, row in (await self.models()).items()}

    async def until(self, model: str, state: str, within_s: float = 20) -> dict[str, Any]:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            row = (await self.models()).get(model, {})
            if row.get("state") == state:
                return row
            await asyncio.sleep(STEP_S)
        raise AssertionError(f"{model} is not {state}: {await self.models()}\n{self.log}")

    async def until_childless(self, within_s: float = 5) -> None:
        """A model counts as stopped from when its server is told to end."""
        deadline = time.monotonic() + within_s
        while self.children():
            assert time.monotonic() < deadline, self.children()
            await asyncio.sleep(STEP_S)

    def server_of(self, port: int) -> int:
        """The pid of the child that serves at a port."""
        return next(pid for pid, words in self.children().items() if str(port) in words)

    def children(self) -> dict[int, list[str]]:
        """The command of each child, by its pid."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for file in tasks for pid in file.read_text().split()]
        commands = {}
        for pid in pids:
            with suppress(OSError):  # it ended meanwhile
                commands[pid] = Path(f"/proc/{pid}/cmdline").read_text()
        return {pid: words.split("\0") for pid, words in commands.items()}


def shelf_in(data: Path) -> Path:
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@asynccontextmanager
async def host(data: Path, **variables: str) -> AsyncIterator[Host]:
    """A host of the models in `shelf_in(data)`, answering."""
    shelf_in(data)
    (data / "run").mkdir(exist_ok=True)
    port = int(variables.get("AI_STACK_LLAMA_CPP_PORT") or free_port())
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(data),
        "AI_STACK_DATA_DIR": str(data),
        "AI_STACK_RUNTIME_DIR": str(data / "run"),
        "AI_STACK_LLAMA_CPP_PORT": str(port),
        "LLAMA_CPP_CTX_SIZE": "1024",
    }
    socket = data / "run" / "models.sock"
    command = (sys.executable, "-m", "ai_stack.supervisor.models", "--socket", str(socket))
    with (data / "host.log").open("ab") as log:
        process = subprocess.Popen(command, env={**own, **variables}, stderr=log)
    channel = Channel(socket)
    try:
        await _answering(channel, process)
        yield Host(data, port, process, channel)
    finally:
        await channel.aclose()
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


async def _answering(channel: Channel, process: "subprocess.Popen[bytes]") -> None:
    while True:
        assert process.poll() is None
        try:
            await channel.call("ping")
        except Unavailable:
            await asyncio.sleep(STEP_S)
        else:
            return


async def ask(url: str, path: str, body: Mapping[str, object] | None = None) -> Any:
    """What a server answers to a request of JSON."""
    return await asyncio.to_thread(_ask, url + path, body)


async def said(url: str, text: str = "Hello?", **more: object) -> str:
    """The answer to one chat message, decoded greedily."""
    messages = [{"role": "user", "content": text}]
    body = {"messages": messages, "temperature": 0, **more}
    return str((await ask(url, "/v1/chat/completions", body))["choices"][0]["message"]["content"])


def _ask(url: str, body: Mapping[str, object] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
