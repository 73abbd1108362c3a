"""Servers that follow others: a PostgreSQL with a standby, a Redis with a replica and sentinels."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from ai_stack.supervisor.redis import find_program
from servers import postgres_bin, scratch_folder, unprivileged
from stacks import free_port

START_S = 20.0


@dataclass
class Postgres:
    """A server on a folder of its own, which can be killed, started and promoted."""

    folder: Path
    options: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    def run(self, program: str, *arguments: str | Path) -> None:
        command = [postgres_bin() / program, *arguments]
        log = self.folder / "tools.log"
        with log.open("ab") as said:
            done = subprocess.run(command, stdout=said, stderr=said, check=False, **self._run)
        assert done.returncode == 0, log.read_text()

    @property
    def _run(self) -> dict[str, object]:
        environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
        return {"env": environment, "cwd": self.folder, **unprivileged()}

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        command = [postgres_bin() / "postgres", "-D", self.data, "-k", self.folder]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "-c", "listen_addresses=", *self.options], stderr=log, **self._run
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def answers(self) -> bool:
        command = [postgres_bin() / "pg_isready", "-q", "-h", self.folder]
        return subprocess.run(command, check=False).returncode == 0

    def sql(self, text: str) -> object:
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(text).fetchone()
        return None if row is None else row[0]

    def kill(self) -> None:
        """As when the machine is lost: the server and all of its processes at once."""
        assert self.process is not None
        others = psutil.Process(self.process.pid).children()
        self.process.kill()
        for one in others:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(2)
            self.process.wait(20)


@dataclass
class Pair:
    """A primary, and a standby that streams from it."""

    primary: Postgres
    standby: Postgres

    def url(self, database: str) -> str:
        """The one of both that takes writes, whichever that is."""
        hosts = f"{self.primary.folder},{self.standby.folder}"
        return f"postgresql://postgres@/{database}?host={hosts}&target_session_attrs=read-write"

    def follows(self, database: str) -> str:
        """The standby."""
        return f"postgresql://postgres@/{database}?host={self.standby.folder}"


@contextmanager
def postgres_pair(*options: str) -> Iterator[Pair]:
    """Both with fsync on; `options` are the primary's alone."""
    with scratch_folder() as one, scratch_folder() as other:
        pair = Pair(Postgres(one, options), Postgres(other))
        plain = ("-U", "postgres", "-A", "trust", "-E", "UTF8")
        pair.primary.run("initdb", "-D", pair.primary.data, *plain)
        try:
            pair.primary.start()
            source = ("-h", one, "-U", "postgres", "-c", "fast", "-R", "-X", "stream")
            pair.standby.run("pg_basebackup", "-D", pair.standby.data, *source)
            pair.standby.start()
            yield pair
        finally:
            pair.standby.stop()
            pair.primary.stop()


@dataclass
class Redises:
    """A master, its replica, and three sentinels that agree on who is the master."""

    folder: Path
    master: int = field(default_factory=free_port)
    replica: int = field(default_factory=free_port)
    sentinels: list[int] = field(default_factory=lambda: [free_port() for _ in range(3)])
    _running: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://{places}/ours"

    def start(self) -> None:
        self._start(self.master)
        self._start(self.replica, "--replicaof", "127.0.0.1", str(self.master))
        for port in self.sentinels:
            file = self.folder / f"sentinel-{port}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\nsentinel monitor ours 127.0.0.1 {self.master} 2\n"
                "sentinel down-after-milliseconds ours 1000\nsentinel failover-timeout ours 5000\n"
            )
            self._run(port, [str(file), "--sentinel"])

    def _start(self, port: int, *options: str) -> None:
        place = self.folder / str(port)
        place.mkdir()
        plain = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(place), "--save", "")
        self._run(port, [*plain, *options])

    def _run(self, port: int, arguments: list[str]) -> None:
        program = self.folder / "redis-server"
        if not program.exists():
            shutil.copy(find_program(), program)
        with (self.folder / f"{port}.log").open("ab") as log:
            self._running[port] = subprocess.Popen([str(program), *arguments], stdout=log)

    def kill(self, port: int) -> None:
        self._running[port].kill()
        self._running.pop(port).wait()

    def stop(self) -> None:
        for port in [*self._running]:
            self.kill(port)


@contextmanager
def redises() -> Iterator[Redises]:
    with scratch_folder() as folder:
        made = Redises(folder)
        try:
            made.start()
            yield made
        finally:
            made.stop()
