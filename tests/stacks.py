"""Real stacks on scratch folders: postgres, redis and whatever stand-ins a test adds."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ai_stack.errors import AIStackError
from ai_stack.settings import Settings, load_settings
from ai_stack.supervisor import StackStatus, control, postgres

RUNNER = """
import asyncio, sys
from ai_stack.errors import AIStackError
from ai_stack.settings import load_settings
from ai_stack.supervisor import Part, parts, session
CHOSEN = {chosen}

def describe(settings, account, environment):
    found = [p for p in parts.describe(settings, account, environment) if p.name in CHOSEN]
    return found + stand_ins(settings)

def stand_ins(settings):
    return [{stand_ins}]

try:
    say = lambda text: print(text, flush=True)
    asyncio.run(session.run(load_settings(), say, lambda stack: None, describe))
except AIStackError as error:
    print("FAILED", type(error).__name__, error.message, flush=True)
    sys.exit(1)
"""


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


class Stack:
    """A supervisor process on one data folder."""

    def __init__(
        self,
        folder: Path,
        stand_ins: str = "",
        chosen: tuple[str, ...] = ("postgres", "roles", "redis"),
        **variables: str,
    ) -> None:
        self.folder = folder
        self.stand_ins, self.chosen = stand_ins, chosen
        self.variables = {"AI_STACK_PORT": str(free_port()), **variables}
        self.process: subprocess.Popen[str] | None = None
        self.said = folder.with_name(f"{folder.name}.said")

    @property
    def environment(self) -> dict[str, str]:
        own = {"AI_STACK_DATA_DIR": str(self.folder), "HOME": str(self.folder.parent)}
        return {"PATH": os.environ["PATH"], **own, **self.variables}

    @property
    def settings(self) -> Settings:
        return load_settings(self.environment)

    def begin(self) -> None:
        code = RUNNER.replace("{stand_ins}", self.stand_ins).replace("{chosen}", repr(self.chosen))
        with self.said.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], env=self.environment, stdout=output, stderr=output
            )

    def up(self, within_s: float = 40) -> StackStatus:
        self.begin()
        return self.until(lambda status: status.healthy, within_s)

    def until(self, condition, within_s: float = 30) -> StackStatus:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, self.said.read_text()
            try:
                status = asyncio.run(control.ask_status(self.settings.runtime))
            except AIStackError:
                status = None
            if status is not None and condition(status):
                return status
            time.sleep(0.05)
        raise AssertionError(f"not within {within_s} s; said:\n{self.said.read_text()}")

    def failure(self) -> str:
        """What it says when it cannot start."""
        self.begin()
        assert self.process is not None
        assert self.process.wait(30) == 1, self.said.read_text()
        return self.said.read_text()

    def down(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(30) == 0, self.said.read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def sql(self, text: str) -> str:
        psql = postgres.binaries(18) / "psql"
        where = ("-h", str(self.settings.runtime), "-U", "aidb_owner", "-d", "aidb")
        command = [str(psql), "-X", "-qAt", "-v", "ON_ERROR_STOP=1", *where, "-c", text]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def redis(self, line: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self.settings.runtime / "redis.sock"))
            client.sendall(line.encode() + b"\r\n")
            return client.recv(65536).decode()


def part(status: StackStatus, name: str):
    return next(p for p in status.parts if p.name == name)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def stack(
    folder: Path,
    stand_ins: str = "",
    chosen: tuple[str, ...] = ("postgres", "roles", "redis"),
    **variables: str,
) -> Iterator[Stack]:
    made = Stack(folder, stand_ins, chosen, **variables)
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.terminate()
            try:
                made.process.wait(30)
            except subprocess.TimeoutExpired:
                made.process.kill()
                made.process.wait()
