"""`ai-stack up --workers 2`: the embedded parts are shared by all processes of the gateway."""

import json
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import psutil
import pytest

import gguf
from ai_stack.cli.credentials import Credentials
from shells import Shell

pytestmark = pytest.mark.alone

SAYS = "All of us are one."
PLACES = ("/search/semantic", "/v1/chat/completions")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = Shell(tmp_path_factory.mktemp("home"))
    models = made.data / "llama-cpp-models"
    models.mkdir(parents=True)
    gguf.write_chat(models / "tiny.gguf", say=SAYS)
    try:
        made("up", "--detach", "--workers", "2")
        yield made
    finally:
        made("down")


def client(shell: Shell) -> httpx.Client:
    """A client with a connection of its own, which any process may get."""
    url = f"http://127.0.0.1:{shell.environment['AI_STACK_PORT']}"
    auth = Credentials(None, shell.data / "secrets/operator")
    return httpx.Client(base_url=url, auth=auth, timeout=60)


def processes(shell: Shell) -> list[int]:
    """The processes that serve, once both are there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        parent = psutil.Process(shell.parts()["aidb-mcp"])
        found = [one.pid for one in parent.children() if "--seat" in one.cmdline()]
        if len(found) == 2 and "2 processes answer" in shell("logs", "gateway"):
            return found
        time.sleep(0.1)
    raise AssertionError(shell("logs", "gateway"))


def asked(shell: Shell) -> Counter[tuple[str, str]]:
    """Requests by place and process."""
    with client(shell) as gateway:
        text = gateway.get("/metrics").text
    found: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        for place in PLACES:
            if line.startswith("aidb_request_seconds_count") and f'route="{place}"' in line:
                process = line.partition('process="')[2].partition('"')[0]
                found[place, process] += int(line.split()[-1])
    return found


def test_every_process_reaches_the_embedder_the_index_and_llama_cpp(shell: Shell) -> None:
    processes(shell)
    with client(shell) as gateway:
        body = {"content": "Old copies are kept for thirty days.", "id": "copies"}
        assert gateway.post("/documents", json=body).status_code == 201
    for turn in range(16):
        with client(shell) as gateway:
            question = {"query": f"how long do we keep old copies {turn}", "mode": "semantic"}
            answer = gateway.post(PLACES[0], json=question).json()
            assert [one["document"]["id"] for one in answer["results"]] == ["copies"]
            assert "degraded" not in answer
            message = {"role": "user", "content": f"who are you {turn}"}
            chat = {"model": "tiny", "messages": [message], "max_tokens": 20, "temperature": 0}
            said = gateway.post(PLACES[1], json=chat)
            assert said.status_code == 200, said.text
            assert said.json()["choices"][0]["message"]["content"].strip() == SAYS
    found = asked(shell)
    assert {key for key, count in found.items() if count} == {
        (place, process) for place in PLACES for process in ("gateway-1", "gateway-2")
    }, found


def test_a_restart_keeps_the_number(shell: Shell) -> None:
    before = processes(shell)
    shell("restart")
    assert not {*before} & {*processes(shell)}
    assert json.loads(shell("health", "--json"))["status"] == "healthy"
