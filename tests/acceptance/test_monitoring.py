"""Every query of every dashboard and alert, asked of a real Prometheus that watches a real stack.

The stack is driven by a mixed load with faults planted in it; a query that no series answers
asks for what the gateway does not tell.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import certificates
import engines
from ai_stack.cli.credentials import Credentials
from ai_stack.engines.memory import OPERATIONS, MemoryEngine
from ai_stack.models.inference import Call, ServedModel
from shells import Shell
from stacks import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES, CONFIG = DEPLOY / "prometheus/ai-stack.rules.yml", DEPLOY / "prometheus/prometheus.yml"
BOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
COMPARED = re.compile(r"\s(==|>|<)\s[\d.e+-]+\s*$")
LOAD_S, WINDOW = 30.0, "20s"
MODEL = "planted"
NEEDED = "This test needs Prometheus: apt-get install prometheus"


class Engine(engines.StandIn):
    """An engine that writes malformed calls of tools, fails when asked to, and takes its time."""

    async def _generated(self, writer: asyncio.StreamWriter, call: Call) -> None:
        if b"fail now" in call.encoded:
            writer.write(engines.reply(500, {"error": {"message": "planted"}}))
        elif "tools" in call.body:
            writer.write(engines.reply(200, MALFORMED))
        else:
            await asyncio.sleep(0.05)
            await super()._generated(writer, call)


FUNCTION = {"name": "weather", "arguments": '{"city": "Paris",'}
MESSAGE = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call-1", "type": "function", "function": FUNCTION}],
}
MALFORMED = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


@contextmanager
def engine() -> Iterator[str]:
    """The URL of an engine that runs on a thread of its own."""
    loop, ready, urls = asyncio.new_event_loop(), threading.Event(), []
    served = (ServedModel(MODEL, 4096, operations=OPERATIONS),)

    async def serve() -> None:
        made = Engine(engine=MemoryEngine(served=served))
        async with made.serving() as port:
            urls.append(made.url.format(port))
            ready.set()
            await asyncio.Event().wait()

    def run() -> None:
        with suppress(RuntimeError, asyncio.CancelledError):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield urls[0]
    for task in asyncio.all_tasks(loop):
        loop.call_soon_threadsafe(task.cancel)
    thread.join(5)
    loop.close()


@dataclass
class Watched:
    """A stack under load, and the Prometheus that watches it."""

    shell: Shell
    url: str
    prometheus: httpx.Client
    began: float = 0.0

    def ask(self, path: str, **params: Any) -> Any:
        answer = self.prometheus.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def series(self, expression: str) -> int:
        """How many series with a number in them answered since the load began."""
        found = self.ask(
            "/api/v1/query_range",
            query=expression,
            start=self.began,
            end=time.time(),
            step="2s",
        )["result"]
        return sum(any(value != "NaN" for _, value in one["values"]) for one in found)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    program = shutil.which("prometheus")
    assert program, NEEDED
    shell = Shell(tmp_path_factory.mktemp("home"))
    authority = certificates.Authority(shell.home)
    authority.issue(shell.home)
    prices = shell.home / "prices.json"
    prices.write_text(json.dumps({MODEL: {"prompt": 1, "completion": 2}}))
    with engine() as engine_url:
        shell.environment |= {
            "AI_STACK_ENGINES": f"{engine_url} memory:",  # which tells its slots
            "AI_STACK_AUTH": "required",
            "AI_STACK_TLS_CERTIFICATE": str(shell.home / "certificate.pem"),
            "AI_STACK_TLS_KEY": str(shell.home / "key.pem"),
            "AI_STACK_INFERENCE_PRICES": str(prices),
            "AI_STACK_SLOW_S": "0.001",
            "AI_STACK_LOG_FORMAT": "json",
            "AI_STACK_ACCESS_LOG": "true",
        }
        shell("up", "--detach")
        try:
            url = f"https://127.0.0.1:{shell.environment['AI_STACK_PORT']}"
            shell("backup", "create")
            with prometheus(program, shell, url) as client:
                found = Watched(shell, url, client, time.time())
                drive(found)
                yield found
        finally:
            shell("down")


def trusted(shell: Shell) -> ssl.SSLContext:
    """The trust in the authority that has issued the stack's certificate."""
    return ssl.create_default_context(cafile=str(shell.home / "authority.pem"))


def key(url: str, shell: Shell, **about: Any) -> str:
    body = {"name": "a key", "scopes": ["operate"], **about}
    auth = Credentials(None, shell.data / "secrets/operator")
    with httpx.Client(verify=trusted(shell), timeout=30) as client:
        answer = client.post(f"{url}/keys", json=body, auth=auth)
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["key"]
    return made


@contextmanager
def prometheus(program: str, shell: Shell, url: str) -> Iterator[httpx.Client]:
    """Prometheus on the configuration that is shipped, but quick, and with a key."""
    folder, port = shell.home / "prometheus", free_port()
    folder.mkdir()
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config["global"]["evaluation_interval"] = "2s"
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [url.removeprefix("https://")]}]
    job |= {"scheme": "https", "tls_config": {"ca_file": str(shell.home / "authority.pem")}}
    (folder / "ai-stack.key").write_text(key(url, shell))
    job["authorization"] = {"credentials_file": "ai-stack.key"}
    job["scrape_timeout"] = "1s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(RULES, folder)
    command = [
        *(program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            for _ in range(100):
                with suppress(httpx.HTTPError):
                    if client.get("/-/ready").status_code == 200:
                        break
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def drive(watched: Watched) -> None:
    """A mixed load for LOAD_S, with what goes wrong in it too."""
    keys = {
        "all": key(watched.url, watched.shell, scopes=SCOPES),
        "reader": key(watched.url, watched.shell, scopes=["read"]),
        "limited": key(
            watched.url, watched.shell, scopes=["read"], limits={"requests_per_minute": 1}
        ),
    }
    asyncio.run(load(watched, keys))


SCOPES = ["read", "write", "infer", "skills", "agent", "manage", "operate"]


async def load(watched: Watched, keys: dict[str, str]) -> None:
    until = time.monotonic() + LOAD_S
    async with httpx.AsyncClient(
        base_url=watched.url,
        headers={"x-api-key": keys["all"]},
        timeout=60,
        verify=trusted(watched.shell),
    ) as client:
        number = 0
        while time.monotonic() < until:
            await documents(client, number)
            await searches(client)
            await inferences(client, number)
            await refusals(client, keys)
            await runs(client, number)
            if number == 3:
                os.kill(watched.shell.parts()["embedder"], signal.SIGKILL)
                for n in range(20):
                    body = {"content": f"written while the embedder is away {n}"}
                    await client.post("/documents?wait=false", json=body)
            number += 1
            await asyncio.sleep(0.2)


async def documents(client: httpx.AsyncClient, number: int) -> None:
    body = {"id": f"d{number}", "content": f"Note {number} says what is kept and for how long."}
    await client.post("/documents?wait=false", json=body)
    await client.get(f"/documents/d{number}")
    await client.get("/documents/none")
    await client.get("/documents")


async def searches(client: httpx.AsyncClient) -> None:
    for mode in ("semantic", "hybrid", "keyword", "hybrid"):
        await client.post("/search/semantic", json={"query": "what is kept", "mode": mode})


async def inferences(client: httpx.AsyncClient, number: int) -> None:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": f"hello {number}"}]}
    same = {**chat, "temperature": 0}
    path = "/v1/chat/completions"
    await asyncio.gather(*(client.post(path, json=same) for _ in range(3)))
    await client.post(path, json=same)
    await client.post(path, json={**chat, "stream": True})
    await client.post(path, json={**chat, "model": "memory"})
    await client.post(path, json={**chat, "tools": [TOOL]})
    failing = [{"role": "user", "content": f"fail now {number}"}]
    await client.post(path, json={**chat, "messages": failing})
    await client.post(path, json={**chat, "model": f"none-{number}"})
    await client.post("/v1/embeddings", json={"input": "hello", "model": "all-MiniLM-L6-v2"})
    with suppress(httpx.ReadTimeout):  # a client that leaves
        slow = {**chat, "stream": True, "max_tokens": 4000}
        await client.post(path, json=slow, timeout=0.02)


async def refusals(client: httpx.AsyncClient, keys: dict[str, str]) -> None:
    wrong = {"x-api-key": "aidb_00000000_nothing"}
    await client.get("/documents", headers=wrong)
    await client.get("/documents", headers={"x-api-key": ""})
    await client.get("/reports/slow", headers={"x-api-key": keys["reader"]})
    await client.get("/documents", headers={"x-project": "nowhere"})
    for _ in range(2):
        await client.get("/documents", headers={"x-api-key": keys["limited"]})


async def runs(client: httpx.AsyncClient, number: int) -> None:
    echo = {"parameters": {"text": "hello"}}
    await client.post("/skills/template-skill/execute", json=echo)
    listed = {"parameters": {"action": "list"}, "background": True}
    for _ in range(3):
        await client.post("/skills/theme-factory/execute", json=listed)
    files = [("files", (f"f{number}.txt", b"Imported words.", "text/plain"))]
    await client.post("/documents/import", files=files)
    call = {"name": "search", "arguments": {"query": "kept"}}
    await client.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
        headers={"accept": "application/json, text/event-stream"},
    )


def asked_by_boards() -> Iterator[tuple[str, str]]:
    for file in BOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{file.stem}: {panel['title']}", target["expr"]


def asked_by_alerts() -> Iterator[tuple[str, str]]:
    """The sides of each alert, without what they are compared with."""
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        for side in rule["expr"].split(" and on () "):
            yield rule["alert"], COMPARED.sub("", side.strip())


def bare(expression: str) -> str:
    """A query without Grafana's variables, and without what stands in for no series."""
    return expression.replace("$__rate_interval", WINDOW).replace(" or vector(0)", "")


QUERIES = [*asked_by_boards(), *asked_by_alerts()]


@pytest.mark.parametrize(("where", "expression"), QUERIES, ids=[where for where, _ in QUERIES])
def test_every_query_is_answered(watched: Watched, where: str, expression: str) -> None:
    assert watched.series(bare(expression)) > 0, expression


def test_a_query_of_nothing_is_not(watched: Watched) -> None:
    assert watched.series("rate(aidb_nothing_total[20s])") == 0
    assert watched.series('sum by (part) (aidb_up{part="nothing"})') == 0


def test_the_gateway_is_the_one_target_and_answers(watched: Watched) -> None:
    (target,) = watched.ask("/api/v1/targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_every_alert_can_be_evaluated(watched: Watched) -> None:
    (group,) = watched.ask("/api/v1/rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert len(group["rules"]) == len(yaml.safe_load(RULES.read_text())["groups"][0]["rules"])


def test_reports_name_what_is_slow_and_what_was_used(watched: Watched) -> None:
    shell = watched.shell
    shell.environment["AI_STACK_KEY"] = key(watched.url, shell)
    slow = json.loads(shell("report", "slow", "--json"))
    assert {item["kind"] for item in slow["items"]} == {"request", "statement"}
    assert "POST /v1/chat/completions" in shell("report", "slow", "-n", "1000")
    for group in ("project", "principal", "model"):
        used = json.loads(shell("report", "usage", "--group", group, "--json"))
        assert used["totals"]["requests"] > 10
    assert "default" in shell("report", "usage")
    assert "key " in shell("report", "usage", "--group", "principal")


def test_no_scrape_names_a_person_a_key_or_a_project(watched: Watched) -> None:
    headers = {"x-api-key": key(watched.url, watched.shell)}
    with httpx.Client(verify=trusted(watched.shell), timeout=30) as client:
        text = client.get(f"{watched.url}/metrics", headers=headers).text
    assert "aidb_up" in text
    for named in ("a key", "00000000-0000-7000", "aidb_00000000"):
        assert named not in text
    assert not re.search(r"[{,](user|principal|key|project)\w*=", text)


def test_the_log_is_json_names_requests_and_has_no_secret(watched: Watched) -> None:
    headers = {"authorization": "Bearer aidb_12345678_planted-secret"}
    with httpx.Client(verify=trusted(watched.shell), timeout=30) as client:
        answer = client.get(f"{watched.url}/documents?search=planted-secret", headers=headers)
    logs = watched.shell.data / "logs"
    for name in ("aidb.log", "worker.log"):
        lines = [json.loads(line) for line in (logs / name).read_text().splitlines()]
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    text = (logs / "aidb.log").read_text()
    named = [
        json.loads(line) for line in text.splitlines() if answer.headers["x-request-id"] in line
    ]
    assert [one["logger"] for one in named] == ["ai_stack.access"]
    assert named[0]["message"].startswith("GET /documents 401 ")
    assert "planted-secret" not in text
    assert "aidb_" not in text.replace("aidb_gateway", "")


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", CONFIG),
        ("check", "rules", RULES),
        ("test", "rules", RULES.with_name("ai-stack.rules.test.yml")),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_finds_nothing_wrong(command: tuple[str, str, Path]) -> None:
    program = shutil.which("promtool")
    assert program, NEEDED
    done = subprocess.run([program, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
