"""What is measured: this stack under its own supervisor, and a Chroma server beside it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from ai_stack.settings import read_settings
from load import request

PORTS = {"stack": 28191, "chroma": 28192}


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ai-stack-bench-", dir="/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Stack:
    """`ai-stack up` on an empty folder; a document of one passage each, vectors given."""

    name = "AI Stack"
    port = PORTS["stack"]

    def __init__(self, home: Path, vectors: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AI_STACK_")}
        self.environment = {
            **kept,
            "HOME": str(home),
            "AI_STACK_PORT": str(self.port),
            "AI_STACK_VECTORS_URL": vectors,
            "AI_STACK_WATCH_IMPORTS": "false",
        }
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "ai_stack", *arguments]
        done = subprocess.run(
            command, env=self.environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout

    def start(self) -> None:
        self.run("up", "--detach")

    def stop(self) -> None:
        self.run("down")

    def runtime(self) -> str:
        """The folder of the sockets."""
        return str(read_settings(self.environment)[0].runtime)

    def pids(self) -> dict[str, int]:
        status = json.loads(self.run("status", "--json"))
        return {p["name"]: p["pid"] for p in status["parts"] if p["pid"]}

    def supervisor(self) -> psutil.Process:
        """The process whose children the parts are."""
        found = psutil.Process(next(iter(self.pids().values()))).parent()
        assert found is not None
        return found

    def add(self, texts: Sequence[str], vectors: np.ndarray, groups: Sequence[int]) -> bytes:
        documents = [
            {"content": t, "vector": v, "metadata": {"group": g}}
            for t, v, g in zip(texts, vectors, groups, strict=True)
        ]
        return request("POST", "/documents", {"documents": documents})

    def search(self, vector: np.ndarray, group: int | None) -> bytes:
        chosen = {} if group is None else {"filter": {"group": group}}
        return request("POST", "/search/semantic", {"vector": vector, "limit": 10, **chosen})

    def found(self, answer: bytes) -> list[str]:
        return [r["document"]["content"] for r in json.loads(answer)["results"]]


def processor_s(supervisor: psutil.Process) -> float:
    """Seconds of processor time that a stack's processes have used, those that ended too."""
    seconds = 0.0
    for process in [supervisor, *supervisor.children(recursive=True)]:
        times = process.cpu_times()
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


class Chroma:
    """`chroma run` on an empty folder, its collection in cosine space."""

    name = "Chroma"
    port = PORTS["chroma"]

    def __init__(self, home: Path, program: Path) -> None:
        self.home, self.program, self.base = home, program, ""
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [self.program, "run", "--path", self.home, "--port", str(self.port)]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        root = "/api/v2/tenants/default_tenant/databases/default_database/collections"
        body = {"name": "bench", "configuration": {"hnsw": {"space": "cosine"}}}
        self.base = f"{root}/{self._post(root, body)['id']}"

    def _post(self, path: str, body: object) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.port}{path}"
        for _ in range(100):
            try:
                asked = urllib.request.Request(
                    url, json.dumps(body).encode(), {"Content-Type": "application/json"}
                )
                return json.load(urllib.request.urlopen(asked, timeout=10))
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("Chroma did not start")

    def stop(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(30)

    def pids(self) -> dict[str, int]:
        assert self.server is not None
        return {"server": self.server.pid}

    def add(self, texts: Sequence[str], vectors: np.ndarray, groups: Sequence[int]) -> bytes:
        body = {
            "ids": [t.split(" ", 1)[0] for t in texts],
            "embeddings": vectors,
            "documents": list(texts),
            "metadatas": [{"group": g} for g in groups],
        }
        return request("POST", f"{self.base}/add", body)

    def search(self, vector: np.ndarray, group: int | None) -> bytes:
        body: dict[str, object] = {
            "query_embeddings": [vector],
            "n_results": 10,
            "include": ["documents", "metadatas", "distances"],
        }
        if group is not None:
            body["where"] = {"group": group}
        return request("POST", f"{self.base}/query", body)

    def found(self, answer: bytes) -> list[str]:
        return json.loads(answer)["documents"][0]
