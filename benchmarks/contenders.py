"""The servers that are measured side by side, each one process on a core of its own.

All stand before the same engine. What is no server under test (the engine, PostgreSQL, Redis,
the load) runs on the other core.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from ai_stack.settings import load_settings
from ai_stack.supervisor import parts
from instant import MODEL
from rivals import Stack

HERE = Path(__file__).parent
SERVER_CORE, LOAD_CORE = 0, 1
PORTS = {
    "direct": 28180,
    "nginx": 28181,
    "LiteLLM": 28182,
    "AI Stack": 28183,
    "FastAPI + redis-py": 28184,
    "llama.cpp": 28185,
    "stack": 28186,
}
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream engine {{
    server 127.0.0.1:{engine}; keepalive 64; keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
LITELLM = """
model_list:
  - model_name: {model}
    litellm_params:
      {{model: openai/{model}, api_base: "http://127.0.0.1:{engine}/v1", api_key: none}}
litellm_settings: {{telemetry: false, num_retries: 0}}
"""


class Server:
    """One process that serves on a port, held to one core."""

    def __init__(self, name: str, command: list[str], core: int = SERVER_CORE) -> None:
        self.name, self.command, self.core = name, command, core
        self.port = PORTS[name]
        self.environment: Mapping[str, str] = os.environ
        self.process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self, folder: Path, ready: str = "/v1/models") -> Iterator["Server"]:
        log = folder / f"{self.name.replace(' ', '-')}.log"
        pinned = ["taskset", "-c", str(self.core), *self.command]
        with log.open("ab") as said:
            self.process = subprocess.Popen(pinned, env=self.environment, stdout=said, stderr=said)
        try:
            self._await(ready, log)
            yield self
        finally:
            end(self.process)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def cpu_s(self) -> float:
        """Processor seconds so far, its children's too."""
        mine = psutil.Process(self.pid)
        times = [p.cpu_times() for p in (mine, *mine.children(recursive=True))]
        return sum(t.user + t.system for t in times)

    def memory_mb(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss) / (1 << 20)

    def _await(self, path: str, log: Path) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {log.read_text()[-2000:]}")
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5).close()
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not answer: {log.read_text()[-2000:]}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process that was started here."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def engine(*options: str) -> Server:
    """The engine that answers at once; measured itself, it is `direct`."""
    port = str(PORTS["direct"])
    command = [sys.executable, str(HERE / "instant.py"), "--port", port, *options]
    return Server("direct", command, LOAD_CORE)


def nginx(folder: Path) -> Server:
    file = folder / "nginx.conf"
    ports = {"engine": PORTS["direct"], "port": PORTS["nginx"]}
    file.write_text(NGINX.format(folder=folder, **ports))
    return Server("nginx", ["nginx", "-p", str(folder), "-c", str(file)])


def litellm(folder: Path, program: Path) -> Server:
    file = folder / "litellm.yaml"
    file.write_text(LITELLM.format(model=MODEL, engine=PORTS["direct"]))
    place = ["--host", "127.0.0.1", "--port", str(PORTS["LiteLLM"])]
    made = Server("LiteLLM", [str(program), "--config", str(file), *place])
    made.environment = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        # No keys and no database, as this gateway is asked without a key.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    return made


def cached(redis: str) -> Server:
    name = "FastAPI + redis-py"
    command = [sys.executable, str(HERE / "cached.py"), "--port", str(PORTS[name])]
    return Server(name, [*command, "--redis", redis])


class Gateway(Server):
    """`ai-stack serve` beside a stack that `ai-stack up` has started, over its parts."""

    def __init__(self, stack: Stack, *, port: int | None = None, **variables: str | None) -> None:
        """At another port beside others of its kind; a variable that is None is left unset."""
        super().__init__("AI Stack", [sys.executable, "-m", "ai_stack", "serve"])
        self.port = port or self.port
        addresses = parts.addresses(load_settings(stack.environment))
        given = {
            **stack.environment,
            **addresses,
            "AI_STACK_PORT": str(self.port),
            "AI_STACK_ENGINES": f"http://127.0.0.1:{PORTS['direct']}/v1",
            "AI_STACK_LOG_LEVEL": "warning",
            **variables,
        }
        self.environment = {name: value for name, value in given.items() if value is not None}


def redis_url(stack: Stack) -> str:
    return parts.addresses(load_settings(stack.environment))["AI_STACK_REDIS_URL"]


def database_url(stack: Stack) -> str:
    """As the owner of the tables, who may count."""
    return parts.addresses(load_settings(stack.environment))["AI_STACK_DATABASE_ADMIN_URL"]


@contextmanager
def stack(home: Path) -> Iterator[Stack]:
    """The parts on the core of the load; the servers under test have theirs for themselves."""
    made = Stack(home, "pgvector:")
    made.environment["AI_STACK_PORT"] = str(PORTS["stack"])
    made.environment["AI_STACK_ENGINES"] = f"http://127.0.0.1:{PORTS['direct']}/v1"
    with held_to(LOAD_CORE):
        try:
            made.start()
            yield made
        finally:
            made.stop()


@contextmanager
def held_to(core: int) -> Iterator[None]:
    """What this process does, and what it starts, stays on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def held(stack: Stack, part: str) -> Iterator[None]:
    """A part that is down and stays down: killed, and its supervisor held until the end."""
    supervisor = supervisor_pid(stack)
    victim = stack.pids()[part]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(victim, signal.SIGKILL)
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)
        _runs_anew(stack, part, victim)


def _runs_anew(stack: Stack, part: str, before: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = {p["name"]: p for p in _status(stack)["parts"]}[part]
        if found["state"] == "running" and found["pid"] != before:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{part} did not come back")


def supervisor_pid(stack: Stack) -> int:
    return int(_status(stack)["pid"])


def _status(stack: Stack) -> dict[str, Any]:
    """As `ai-stack status` tells it, which exits with 1 while a part is down."""
    command = [sys.executable, "-m", "ai_stack", "status", "--json"]
    done = subprocess.run(command, env=stack.environment, capture_output=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
