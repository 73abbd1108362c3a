"""Real processes of the stack on a test's servers: gateways on ports of their own, and workers."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from ai_stack.cli.credentials import Credentials
from reliability.clients import FAILURES, Client
from stacks import free_port

START_S, STOP_S = 90.0, 60.0
CLOSING_S = 0.1  # for the ends of connections that were closed just now


@dataclass
class Process:
    """One of `ai-stack serve` or `worker`, and what it has said."""

    popen: "subprocess.Popen[bytes]"
    log: Path
    port: int = 0

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.popen.pid).children()

    def said(self) -> str:
        return self.log.read_text()

    async def ended(self, within_s: float = STOP_S) -> int:
        async with asyncio.timeout(within_s):
            while (status := self.popen.poll()) is None:
                await asyncio.sleep(0.02)
        return status

    async def until_said(self, words: str, times: int = 1, within_s: float = START_S) -> None:
        async with asyncio.timeout(within_s):
            while self.said().count(words) < times:
                assert self.popen.poll() is None, self.said()
                await asyncio.sleep(0.02)


@dataclass
class Ground:
    """What processes are started with: a folder for their data, and their settings."""

    folder: Path
    variables: Mapping[str, str]
    _count: int = field(default=0)

    @property
    def environment(self) -> dict[str, str]:
        home = {"HOME": str(self.folder), "AI_STACK_DATA_DIR": str(self.folder / "data")}
        own = {**home, "AI_STACK_CONFIG_DIR": str(self.folder / "config")}
        return {"PATH": os.environ["PATH"], **own, **self.variables}

    @asynccontextmanager
    async def running(
        self, *arguments: str, port: int = 0, **variables: str
    ) -> AsyncIterator[Process]:
        """A process from its start to its end, which it is told of in the end."""
        self._count += 1
        log = self.folder / f"{arguments[0]}-{self._count}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "ai_stack", *arguments],
                env={**self.environment, **variables},
                stdout=output,
                stderr=output,
            )
        process = Process(popen, log, port)
        try:
            yield process
        finally:
            if popen.poll() is None:
                popen.terminate()
            try:
                await process.ended()
            except TimeoutError:
                popen.kill()
                popen.wait()
                raise AssertionError(f"it did not end: {process.said()}") from None

    @asynccontextmanager
    async def gateway(self, *options: str, **variables: str) -> AsyncIterator[Process]:
        """`ai-stack serve` that answers."""
        port = free_port()
        command = ("serve", "--port", str(port), *options)
        async with self.running(*command, port=port, **variables) as process:
            await self._answers(process)
            yield process

    async def _answers(self, process: Process) -> None:
        async with self.client(process) as client, asyncio.timeout(START_S):
            while True:
                assert process.popen.poll() is None, process.said()
                try:
                    if (await client.get("/health/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    def client(self, process: Process, key: str | None = None) -> httpx.AsyncClient:
        """A client of a gateway; without a key it is the operator."""
        auth = Credentials(key, self.folder / "data/secrets/operator")
        url = f"http://127.0.0.1:{process.port}"
        return httpx.AsyncClient(base_url=url, auth=auth, timeout=60)


@dataclass
class Traffic:
    """Requests without end on so many kept-alive connections; nothing is tried again."""

    port: int
    connections: int = 4
    method: str = "GET"
    path: str = "/health/live"
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def going(self) -> AsyncIterator["Traffic"]:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._lane(stop)) for _ in range(self.connections)]
        try:
            yield self
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    @property
    def failed(self) -> dict[str, int]:
        return {what: count for what, count in self.seen.items() if what != "200"}

    async def _lane(self, stop: asyncio.Event) -> None:
        client = Client(self.port, timeout_s=20)
        while not stop.is_set():
            try:
                reply = await client.request(self.method, self.path, self.body, self.headers)
                self.seen[str(reply.status)] += 1
                await asyncio.sleep(self.pause_s)
            except FAILURES as error:
                self.seen[type(error).__name__] += 1
                await asyncio.sleep(0.01)
        client.close()


async def until(met: Any, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not met():
            await asyncio.sleep(0.01)


def chat(content: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "memory", "temperature": 0, "messages": messages, **more}
