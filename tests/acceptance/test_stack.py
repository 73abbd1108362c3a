"""The whole stack by its command, from an empty home: up, status, health, logs, restart, down."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from shells import Shell
from stacks import alive

pytestmark = pytest.mark.alone

CACHES = {"redis", "redis-kept"}
PARTS = {"postgres", *CACHES, "embedder", "vectors", "llama-cpp", "worker", "aidb-mcp"}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = Shell(tmp_path_factory.mktemp("home"))
    try:
        made("up", "--detach")
        yield made
    finally:
        made("down")


def test_up_makes_a_healthy_stack(shell: Shell):
    assert set(shell.parts()) == PARTS
    assert json.loads(shell("health", "--json"))["status"] == "healthy"
    assert "running already" in shell("up", "--detach")


def test_logs_know_the_gateway_by_both_names(shell: Shell):
    assert shell("logs", "aidb-mcp") == shell("logs", "gateway")
    assert "postgres " in shell("logs", "-n", "1000")


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_killed_part_comes_back(shell: Shell, name: str):
    before = shell.parts()[name]
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.3)
        found = json.loads(_status(shell))
        if found["healthy"] and before not in [part["pid"] for part in found["parts"]]:
            break
    assert shell.parts()[name] != before
    time.sleep(2)  # within which the gateway is to have its connections again
    assert json.loads(shell("health", "--json"))["status"] == "healthy"


def test_a_killed_supervisor_leaves_nobody_and_the_next_up_is_healthy(shell: Shell):
    left = [*shell.parts().values()]
    os.kill(json.loads(shell("status", "--json"))["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 8
    while any(alive(pid) for pid in left) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in left if alive(pid)]
    shell("status", status=3)
    shell("up", "--detach")
    assert set(shell.parts()) == PARTS


def test_restart_reads_the_settings_anew(shell: Shell):
    config = shell.home / ".config/nixos-ai-stack"
    config.mkdir(parents=True, exist_ok=True)
    (config / ".env").write_text("AI_STACK_REDIS_MAXMEMORY=64mb\n")
    shell("restart")
    assert "maxmemory 64mb" in (shell.data / "redis/redis.conf").read_text()
    assert str(config / ".env") in shell("settings")


def test_a_wrong_setting_is_one_line_with_its_file(shell: Shell):
    file = shell.home / ".config/nixos-ai-stack/.env"
    before = file.read_text() if file.exists() else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("AI_STACK_LOG_LEVEL=loud\n")
    try:
        said = shell("settings", status=2)
    finally:
        file.write_text(before)
    assert said.count("\n") == 1
    assert f"AI_STACK_LOG_LEVEL ({file})" in said


def test_down_twice_is_harmless(shell: Shell):
    pids = shell.parts().values()
    assert "has stopped" in shell("down")
    assert not [pid for pid in pids if alive(pid)]
    assert "not running" in shell("down")
    shell("health", status=1)
    shell("up", "--detach")


def test_help_is_quick(shell: Shell):
    assert "Usage" in shell("--help")
    assert "no verb fly" in shell("fly", status=2)


def _status(shell: Shell) -> str:
    command = [sys.executable, "-m", "ai_stack", "status", "--json"]
    return subprocess.run(command, env=shell.environment, capture_output=True, text=True).stdout
