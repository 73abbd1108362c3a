"""The doctor sees what is planted, says what mends it, and is silent about what is well."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

import engines
from ai_stack.cli import main, optimizer
from ai_stack.cli.clients.served import Model, Served
from ai_stack.cli.diagnosis import (
    Check,
    Stack,
    connected,
    examine,
    folders,
    machine,
    models,
    network,
    parts,
    servers,
)
from ai_stack.cli.doctor import CHECKS
from ai_stack.engines.memory import MemoryEngine
from ai_stack.settings import Settings
from ai_stack.supervisor import PartStatus, StackStatus
from clients import gateway

SERVED = Served([Model("small-chat", 8192)], "small-embedder")
HEALTH = {"status": "healthy", "services": {"postgres": {"status": "healthy"}}}


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return planted(tmp_path)


def planted(folder: Path, **fields: object) -> Stack:
    settings = Settings.model_validate(
        {
            "data_dir": folder / "data",
            "config_dir": folder / "config",
            "runtime_dir": folder / "run",
            "port": free_port(),
            "llama_cpp_port": free_port(),
            **fields,
        }
    )
    return Stack(settings)


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def said(check: Check, stack: Stack) -> str:
    return "\n".join(f"{f.what} {f.why} {f.mend}" for f in check(stack))


def test_a_machine_that_is_well_is_not_complained_about(stack: Stack) -> None:
    for check in (*(c for c in CHECKS if c.__module__.endswith(("machine", "folders"))),):
        assert said(check, stack) == ""


def test_a_full_disk_and_memory_are_seen(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ROOM_BYTES", 1 << 60)
    monkeypatch.setattr(machine, "MEMORY_BYTES", 1 << 60)
    assert "MiB are free" in said(machine.disk, stack)
    assert "of memory are left" in said(machine.memory, stack)


def test_a_clock_that_was_set_back_is_seen(stack: Stack) -> None:
    file = stack.settings.data_dir / "logs" / "aidb.log"
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert said(machine.clock, stack) == ""
    os.utime(file, (time.time() + 3600,) * 2)
    assert "60 minutes behind" in said(machine.clock, stack)


def test_folders_with_wrong_rights_are_seen(stack: Stack) -> None:
    data, file = stack.settings.data_dir, stack.settings.config_dir / ".env"
    data.mkdir()
    data.chmod(0o777)
    assert f"chmod o-w {data}" in said(folders.rights, stack)
    file.parent.mkdir()
    file.write_text("POSTGRES_PASSWORD=x\n")
    file.chmod(0o644)
    assert f"chmod 600 {file}" in said(folders.secrets, stack)
    file.write_text("# POSTGRES_PASSWORD=x\nAI_STACK_PORT=1\n")
    assert said(folders.secrets, stack) == ""


def test_what_another_program_laid_out_and_what_a_crash_left_is_seen(stack: Stack) -> None:
    data, runtime = stack.settings.data_dir, stack.settings.runtime
    (data / "postgres" / "base").mkdir(parents=True)
    assert "not laid out by this AI Stack" in said(folders.layout, stack)
    assert not (data / "layout.json").exists()
    runtime.mkdir()
    (runtime / "supervisor.sock").write_text("")
    assert "no supervisor behind it" in said(folders.leftovers, stack)


def test_a_port_that_somebody_else_has_is_named_with_him(stack: Stack) -> None:
    assert said(parts.ports, stack) == ""
    with socket.socket() as other:
        other.bind(("127.0.0.1", stack.settings.port))
        other.listen()
        told = said(parts.ports, stack)
    assert f"Port {stack.settings.port} is taken by " in told
    assert f"(process {os.getpid()})" in told
    assert f"AI_STACK_PORT={stack.settings.port + 1}" in told


def test_parts_in_trouble_are_told_with_their_last_line(stack: Stack) -> None:
    assert "ai-stack up" in said(parts.supervisor, stack)
    stack.supervisor = 42
    assert "kill -9 42" in said(parts.supervisor, stack)
    assert "No gateway answers" in said(parts.gateway, stack)
    broken = PartStatus("vectors", "failing", detail="it exits", log=("first", "last words"))
    well = PartStatus("redis", "running")
    stack.status = StackStatus(False, False, 42, 0.0, "", "", (well, broken))
    told = said(parts.parts, stack)
    assert "last words" in told
    assert "ai-stack restart vectors" in told
    assert "redis" not in told
    stack.health = {"services": {"redis": {"status": "unhealthy", "detail": "it is away"}}}
    assert "redis is unhealthy: it is away" in said(parts.gateway, stack)
    stack.health = HEALTH
    assert said(parts.gateway, stack) == ""


def test_missing_models_are_told(tmp_path: Path) -> None:
    stack = planted(tmp_path, default_model="gone")
    assert "There is no model" in said(models.served, stack)
    stack.served = Served([])
    assert "ai-stack models pull" in said(models.served, stack)
    stack.served = SERVED
    assert "gone is not served; served are small-chat" in said(models.served, stack)
    absent = planted(tmp_path, LLAMA_CPP_DEFAULT_MODEL="/srv/absent.gguf")
    assert "put a model at /srv/absent.gguf" in said(models.served, absent)
    assert said(models.served, planted(tmp_path, engines=SecretStr("vllm://h:1"))) == ""


@pytest.fixture
def aider(tmp_path: Path) -> Iterator[tuple[Stack, Path]]:
    stack = planted(tmp_path)
    file = tmp_path / ".aider.conf.yml"
    file.write_text(f"openai-api-base: {stack.url}/v1\nmodel: openai/small-chat\n")
    optimizer.record(stack.settings, stack.url, {"aider": {"files": [str(file)]}})
    yield stack, file


def test_clients_that_point_elsewhere_are_told(aider: tuple[Stack, Path]) -> None:
    stack, file = aider
    stack.served = SERVED
    assert said(connected.clients, stack) + said(connected.noted, stack) == ""
    text = file.read_text()
    file.write_text(text.replace("small-chat", "old-chat"))
    assert "asks for the model old-chat" in said(connected.clients, stack)
    file.write_text(text.replace(stack.url, "http://127.0.0.1:1"))
    assert "aider speaks to http://127.0.0.1:1" in said(connected.clients, stack)
    file.write_text("a: [")
    assert "is not YAML" in said(connected.clients, stack)
    stack.settings = stack.settings.model_copy(update={"port": 1})
    assert "Programs that look for the stack" in said(connected.noted, stack)
    (stack.settings.config_dir / optimizer.NAME).write_text("{")
    assert "line 1 is not JSON" in said(connected.noted, stack)
    assert said(connected.clients, stack) == ""


def test_a_gateway_that_was_given_by_hand_is_meant(aider: tuple[Stack, Path]) -> None:
    stack, file = aider
    other = "http://other:8091"
    file.write_text(f"openai-api-base: {other}/v1\nmodel: openai/theirs\n")
    row = {"files": [str(file)], "url": other, "project": "/p"}
    optimizer.record(stack.settings, stack.url, {"aider": row})
    assert said(connected.clients, stack) == ""
    file.write_text("openai-api-base: http://third/v1\n")
    assert "connect aider --project-dir /p" in said(connected.clients, stack)


def test_the_hub_is_asked_only_when_wished(tmp_path: Path) -> None:
    stack = planted(tmp_path, hub_url="http://127.0.0.1:9")
    assert said(network.hub, stack) == ""
    stack.online = True
    assert "does not answer" in said(network.hub, stack)
    with gateway() as hub:
        stack.settings = stack.settings.model_copy(update={"hub_url": hub.url})
        assert said(network.hub, stack) == ""


def test_an_embedder_that_fails_is_seen(stack: Stack) -> None:
    with gateway() as played:
        stack.settings = stack.settings.model_copy(update={"url": played.url})
        stack.served = SERVED
        assert said(parts.embedding, stack) == ""
        played.broken.add("/v1/embeddings")
        assert "ai-stack restart embedder" in said(parts.embedding, stack)


def test_a_gateway_that_asks_for_keys_is_shown_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [v for v in os.environ if v.startswith("AI_STACK_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    with gateway(keys={"aidb_good": ["read", "infer"]}) as played:
        monkeypatch.setenv("AI_STACK_URL", played.url)
        stack = examine(online=False)
        told = said(parts.credentials, stack)
        assert "asks who you are: set AI_STACK_KEY, or run `ai-stack login`." in told
        monkeypatch.setenv("AI_STACK_KEY", "aidb_good")
        stack = examine(online=False)
        assert stack.served is not None
        assert said(parts.credentials, stack) + said(parts.embedding, stack) == ""
        assert played.shown["/v1/embeddings"] == "aidb_good"


def test_clients_that_show_no_key_are_told_where_one_is_wanted(
    aider: tuple[Stack, Path],
) -> None:
    stack, file = aider
    file.write_text(file.read_text() + "openai-api-key: local\n")
    assert said(connected.clients, stack) == ""
    stack.asks = True
    assert "aider shows no key" in said(connected.clients, stack)
    file.write_text(file.read_text().replace("local", "aidb_good"))
    assert said(connected.clients, stack) == ""


async def test_engines_that_are_no_help_are_named(tmp_path: Path) -> None:
    none = engines.RawServer([[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]])
    memory = MemoryEngine()
    well = engines.StandIn(dialect="openai", engine=memory)
    async with none.serving() as odd, well.serving() as good:
        urls = f"http://127.0.0.1:{free_port()}/v1 http://:KEY@127.0.0.1:{odd}/v1"
        stack = planted(tmp_path, engines=f"llama-cpp: {urls} {well.url.format(good)}")
        told = await asyncio.to_thread(said, servers.engines, stack)
    assert told.count("The engine at") == 2
    assert "does not answer" in told
    assert "no list of models" in told
    assert "KEY" not in told
    memory.served = []
    async with well.serving() as good:
        stack = planted(tmp_path, engines=well.url.format(good))
        assert "serves no model" in await asyncio.to_thread(said, servers.engines, stack)


def test_broken_settings_do_not_keep_it_from_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port, file = free_port(), tmp_path / "config" / ".env"
    file.parent.mkdir()
    file.write_text(f"AI_STACK_LOG_LEVEL=loud\nAI_STACK_PORT={port}\nREDIS_PORT=none\n")
    monkeypatch.setenv("AI_STACK_CONFIG_DIR", str(file.parent))
    monkeypatch.setenv("AI_STACK_DATA_DIR", str(tmp_path / "data"))
    stack = examine(online=False)
    assert stack.settings.port == port
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    assert ended.value.code == 1
    assert [f["check"] for f in found].count("settings") == 2
    assert any("AI_STACK_LOG_LEVEL" in f["what"] for f in found)
    file.write_bytes(b"\xff\xfe")
    assert "cannot be read" in examine(online=False).wrong_settings[0].message


def test_every_finding_says_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["doctor"])
    told = capsys.readouterr().out
    assert told.count("why ") == told.count("mend ") == told.count("✗") > 0
    assert not any(tmp_path.iterdir())
