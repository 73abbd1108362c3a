"""The stack's parts managed: a real supervisor with a real Redis, and the other managers' words."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed
from skills import run
from stacks import Stack, alive, part, stack

NAME = "ai-service-management"
SETTINGS = ("AI_STACK_MANAGER", "AI_STACK_UNIT", "AI_STACK_COMPOSE_FILE")


def act(folder: Path, action: str, **more: Any) -> dict[str, Any]:
    return dict(asyncio.run(run(NAME, folder, action=action, **more)).output)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A supervisor with a Redis, and nothing else."""
    with stack(tmp_path_factory.mktemp("stack") / "data", chosen=("redis",)) as made:
        made.up()
        yield made


@pytest.fixture
def here(running: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The environment of a gateway of that stack."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


def redis_pid(running: Stack) -> int:
    found = running.until(lambda status: part(status, "redis").state == "running")
    pid = part(found, "redis").pid
    assert pid is not None
    return pid


def test_a_killed_redis_comes_back(here: Stack, tmp_path: Path):
    before = redis_pid(here)
    assert here.redis("PING").startswith("+PONG")
    os.kill(before, signal.SIGKILL)
    here.until(lambda status: part(status, "redis").pid != before)
    found = act(tmp_path, "start", part="redis")
    (redis,) = found["parts"]
    assert (redis["name"], redis["state"]) == ("redis", "running")
    assert int(redis["process"]) != before
    assert redis["restarts"] >= 1
    assert here.redis("PING").startswith("+PONG")


def test_a_stopped_redis_comes_back(here: Stack, tmp_path: Path):
    """Stopped in its tracks, it lives and answers nobody: only a restart helps."""
    before = redis_pid(here)
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        impatient(here)
    found = act(tmp_path, "restart", part="redis")
    assert int(found["was"]) == before != int(found["now"])
    assert here.redis("PING").startswith("+PONG")
    assert not alive(before)


def impatient(running: Stack) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.2)
        client.connect(str(running.settings.runtime / "redis.sock"))
        client.sendall(b"PING\r\n")
        client.recv(64)


def test_status_and_logs_of_a_running_stack(here: Stack, tmp_path: Path):
    found = act(tmp_path, "status")
    assert found["manager"] == "supervisor"
    assert found["running"]
    assert found["healthy"]
    assert [p["name"] for p in found["parts"]] == ["redis"]
    logs = act(tmp_path, "logs", part="redis", lines=3)
    assert len(logs["lines"]) == 3
    again = act(tmp_path, "start", part="redis")
    assert again["parts"][0]["process"] == found["parts"][0]["process"]


def test_a_part_cannot_be_stopped_and_an_unknown_one_not_be_named(here: Stack, tmp_path: Path):
    with pytest.raises(SkillFailed, match="keeps every part running"):
        act(tmp_path, "stop", part="redis")
    with pytest.raises(InvalidRequest, match="part"):
        act(tmp_path, "restart", part="redis; rm -rf /")
    with pytest.raises(SkillFailed, match="no part vectors"):
        act(tmp_path, "restart", part="vectors")


def test_the_stack_is_stopped_and_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with stack(tmp_path / "data", chosen=("redis",)) as made:
        made.up()
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        found = act(tmp_path, "stop")
        assert made.process is not None
        assert made.process.wait(30) == 0
    assert not found["running"]
    assert not (act(tmp_path, "status"))["running"]
    with pytest.raises(SkillFailed, match="does not run"):
        act(tmp_path, "start", part="redis")
    assert not (act(tmp_path, "stop"))["running"]  # twice is harmless


STAND_IN = """#!{python}
import json, os, sys
with open({seen!r}, "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
if "ps" in sys.argv:
    print({answer!r})
if "restart" in sys.argv and "worker" in sys.argv:
    sys.exit("no such service: worker")
"""
PODMAN = json.dumps(
    [{"Id": "ab" * 20, "Names": ["s_redis_1"], "State": "running", "Service": "redis"}]
)
DOCKER = "\n".join(
    json.dumps({"ID": "cd" * 6, "Service": name, "State": state, "Status": "Up 3 minutes"})
    for name, state in (("redis", "running"), ("gateway", "exited"))
)
Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a program on PATH, alone, that writes down how it is called."""
    folder, seen = tmp_path / "bin", tmp_path / "seen"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, answer: str = "") -> Path:
        path = folder / name
        text = STAND_IN.format(python=sys.executable, seen=str(seen), answer=answer)
        path.write_text(text)
        path.chmod(0o755)
        return seen

    return make


@pytest.mark.parametrize(("name", "answer"), [("podman", PODMAN), ("docker", DOCKER)])
def test_compose_is_asked_for_parts(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch, name: str, answer: str
):
    seen = program(name, answer)
    file = tmp_path / "compose.yaml"
    file.touch()
    monkeypatch.setenv("AI_STACK_MANAGER", "compose")
    monkeypatch.setenv("AI_STACK_COMPOSE_FILE", str(file))
    found = act(tmp_path, "restart", part="redis")
    assert found["manager"] == "compose"
    assert found["parts"][0]["state"] == "running"
    assert found["healthy"] == (name == "podman")
    act(tmp_path, "stop", part="redis")
    act(tmp_path, "logs", part="gateway", lines=7)
    calls = [json.loads(line) for line in seen.read_text().splitlines()]
    head = [name, "compose", "-f", str(file)]
    assert [*head, "restart", "redis"] in calls
    assert [*head, "stop", "redis"] in calls
    assert [*head, "logs", "--no-color", "--tail", "7", "gateway"] in calls
    with pytest.raises(SkillFailed, match="no such service"):
        act(tmp_path, "restart", part="worker")


def test_systemd_is_asked_for_the_whole(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
):
    seen = program("systemctl")
    monkeypatch.setenv("AI_STACK_MANAGER", "systemd")
    monkeypatch.setenv("AI_STACK_DATA_DIR", str(tmp_path / "nothing"))
    act(tmp_path, "start")
    (called,) = (json.loads(line) for line in seen.read_text().splitlines())
    assert called[0] == "systemctl"
    assert called[-2:] == ["start", "ai-stack.service"]
    assert ("--user" in called) == (os.geteuid() != 0)
    monkeypatch.setenv("AI_STACK_UNIT", "--root=/tmp")
    with pytest.raises(SkillFailed, match="AI_STACK_UNIT"):
        act(tmp_path, "start", plan=True)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"AI_STACK_MANAGER": "cron"}, "supervisor, systemd, compose"),
        ({"AI_STACK_MANAGER": "compose"}, "AI_STACK_COMPOSE_FILE"),
        ({"AI_STACK_MANAGER": "systemd"}, "systemctl is not"),
    ],
)
def test_a_manager_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SkillFailed, match=told):
        act(tmp_path, "restart", plan=True)
