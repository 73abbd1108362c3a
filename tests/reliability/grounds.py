"""Real stacks to run rows on: started by the product's own command, and faulty parts beside."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ai_stack.errors import AIStackError
from ai_stack.settings import Settings, load_settings
from ai_stack.supervisor import NotReady, PartStatus, StackStatus, control, parts, probes
from ai_stack.supervisor.postgres import SOCKET
from reliability.clients import FAILURES, Client
from stacks import alive, free_port

PLANTS = Path(__file__).with_name("plants.py")
GATEWAY = "aidb-mcp"


@dataclass(frozen=True)
class Ground:
    """A stack that runs, and the gateway under test: the stack's own, or a faulty one beside."""

    folder: Path
    settings: Settings
    environment: Mapping[str, str]
    beside: "subprocess.Popen[bytes] | None" = None
    beside_port: int = 0

    @property
    def port(self) -> int:
        return self.beside_port or self.settings.port

    def client(self, **options: float) -> Client:
        return Client(self.port, **options)

    async def status(self) -> StackStatus:
        return await control.ask_status(self.settings.runtime)

    async def part(self, name: str) -> PartStatus:
        return next(p for p in (await self.status()).parts if p.name == name)

    async def pid(self, name: str) -> int:
        """The pid of a running part; waits until it runs."""
        if name == GATEWAY and self.beside is not None:
            return self.beside.pid
        async with asyncio.timeout(60):
            while (found := await self.part(name)).state != "running" or found.pid is None:
                await asyncio.sleep(0.02)
        return found.pid

    async def kill(self, name: str) -> float:
        """kill -9 a part; the moment at which it was gone."""
        pid = await self.pid(name)
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            await asyncio.sleep(0.001)
        return time.monotonic()

    async def postgres_accepts(self) -> float:
        """Wait until PostgreSQL accepts connections; the moment of it."""
        ask = probes.postgres(self.settings.runtime / SOCKET, "postgres")
        async with asyncio.timeout(120):
            while True:
                with suppress(NotReady):
                    await ask()
                    return time.monotonic()
                await asyncio.sleep(0.005)

    async def healthy(self, within_s: float = 120) -> None:
        async with asyncio.timeout(within_s):
            while not (await self.status()).healthy:
                await asyncio.sleep(0.05)

    def command(self, *arguments: str, timeout_s: float = 300) -> str:
        """One run of `ai-stack`; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "ai_stack", *arguments],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ai-stack {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout


@contextmanager
def stack(data: Path | None = None, **variables: str) -> Iterator[Ground]:
    """`ai-stack up --detach` on a scratch HOME, and `down` at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ai-stack-reliability-", dir="/tmp"))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AI_STACK_DATA_DIR": str(data or folder / "data"),
        "AI_STACK_PORT": str(free_port()),
        **variables,
    }
    ground = Ground(folder, load_settings(environment), environment)
    try:
        ground.command("up", "--detach")
        yield ground
    finally:
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            ground.command("down")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(ground.settings.runtime, ignore_errors=True)


def faulty(
    ground: Ground, plant: str, *command: str, **variables: str
) -> "subprocess.Popen[bytes]":
    """Start one of the product's own processes with a planted defect, on the stack's parts."""
    log = (ground.folder / f"{plant}.log").open("ab")
    addresses = parts.addresses(ground.settings)
    try:
        return subprocess.Popen(
            [sys.executable, str(PLANTS), plant, *command],
            env={**ground.environment, **addresses, **variables},
            stdout=log,
            stderr=log,
        )
    finally:
        log.close()


@asynccontextmanager
async def with_faulty_gateway(ground: Ground, plant: str) -> AsyncIterator[Ground]:
    """The same stack with a gateway of a faulty build as the one under test."""
    port = free_port()
    process = faulty(ground, plant, "serve", AI_STACK_PORT=str(port))
    try:
        await answers(port, process)
        yield Ground(ground.folder, ground.settings, ground.environment, process, port)
    finally:
        await asyncio.to_thread(end, process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process that was started here."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def answers(port: int, process: "subprocess.Popen[bytes]") -> None:
    client = Client(port, timeout_s=2)

    async def ready() -> bool:
        assert process.poll() is None, "the faulty build ended"
        return (await client.request("GET", "/health/ready")).ok

    await until(ready, 60)
    client.close()


async def until(
    condition: Callable[[], Awaitable[bool]], within_s: float, pause_s: float = 0.05
) -> float:
    """Seconds until the condition held; TimeoutError when it did not within `within_s`."""
    started = time.monotonic()
    while time.monotonic() - started < within_s:
        with suppress(AIStackError, *FAILURES):
            if await condition():
                return time.monotonic() - started
        await asyncio.sleep(pause_s)
    raise TimeoutError(f"not within {within_s} s")
