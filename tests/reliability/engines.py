"""Stand-in engines as processes, and a gateway before them: the ground of the rows of inference."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reliability.clients import FAILURES, Client
from reliability.grounds import Ground, end, faulty, until
from reliability.verdicts import Trial
from stacks import free_port

STAND_IN = Path(__file__).with_name("stand_in.py")


@dataclass
class Engine:
    """One stand-in; killed, it can be started again on its port."""

    port: int
    options: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        command = [sys.executable, "-S", str(STAND_IN), "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    async def listening(self) -> None:
        client = Client(self.port, timeout_s=2)

        async def answers() -> bool:
            return (await client.request("GET", "/v1/models")).ok

        await until(answers, 20, 0.01)
        client.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@contextmanager
def engines(count: int, *options: str) -> Iterator[list[Engine]]:
    """So many stand-ins that serve the same model."""
    made = [Engine(free_port(), options) for _ in range(count)]
    try:
        for engine in made:
            engine.start()
        yield made
    finally:
        for engine in made:
            engine.close()


@asynccontextmanager
async def before(trial: Trial, behind: list[Engine], **variables: str) -> AsyncIterator["Gateway"]:
    """A gateway before these engines, on the parts of the trial's stack; faulty if planted."""
    for engine in behind:
        await engine.listening()
    port = free_port()
    given = {
        "AI_STACK_PORT": str(port),
        "AI_STACK_ENGINES": " ".join(engine.url for engine in behind),
        **variables,
    }
    process = faulty(trial.ground, trial.plant or "none", "serve", **given)
    try:
        gateway = Gateway(trial.ground, port, process)
        await gateway.serves()
        yield gateway
    finally:
        await asyncio.to_thread(end, process)


@dataclass(frozen=True)
class Gateway:
    """The gateway of a row."""

    ground: Ground
    port: int
    process: "subprocess.Popen[bytes]"

    def client(self, **options: float) -> Client:
        return Client(self.port, **options)

    async def serves(self) -> None:
        """Wait until it lists a model."""
        client = self.client(timeout_s=5)

        async def listed() -> bool:
            assert self.process.poll() is None, "the gateway ended"
            reply = await client.request("GET", "/v1/models")
            return reply.ok and bool(reply.json()["data"])

        await until(listed, 60)
        client.close()

    async def status(self, path: str, body: Mapping[str, object] | None = None) -> int:
        """The status of one request, 0 for none."""
        client = self.client(timeout_s=60)
        try:
            return (await client.request("POST" if body else "GET", path, body)).status
        except FAILURES:
            return 0
        finally:
            client.close()
