"""Clients that people use, run for real against a whole stack with a tiny model.

They are installed once, each in an environment of its own under a cache folder: about 600 MB, of
which aider is 540, and five seconds from a near index.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import gguf
from stacks import free_port

# shell-gpt imports click, which the typer that it depends on no longer brings.
CLIENTS = {
    "llm": ("llm", "llm==0.36"),
    "sgpt": ("sgpt", "shell-gpt==1.5.1", "click==8.5.1"),
    "aider": ("aider", "aider-chat==0.86.2"),
    "openai": ("python3", "openai==3.54.0"),
}
NEWEST_FOR_AIDER = (3, 12)
CALL = '<tool_call>\n{"name": "report", "arguments": {"ok": true}}\n</tool_call>'
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ai-stack-tests"
AIDER = (
    *("--no-git", "--no-check-update", "--no-analytics", "--no-pretty", "--yes-always"),
    *("--no-gitignore", "--map-tokens", "0"),
)


def install(name: str, *packages: str) -> Path:
    """The folder of a client's programs; another version makes another folder."""
    version = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    folder = CACHE / "clients" / f"{version}-{'-'.join(packages).replace('=', '')}"
    done = folder / "installed"
    if not done.exists():
        for command in commands(folder, packages):
            made = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if made.returncode != 0:
                pytest.skip(f"{name} cannot be installed: {made.stderr.strip()[-300:]}")
        done.touch()
    return folder / "bin"


def commands(folder: Path, packages: tuple[str, ...]) -> list[list[str]]:
    python = str(folder / "bin" / "python")
    if shutil.which("uv"):
        make = ["uv", "venv", "-q", "--clear", "--python", sys.executable, str(folder)]
        return [make, ["uv", "pip", "install", "-q", "--python", python, *packages]]
    make = [sys.executable, "-m", "venv", "--clear", str(folder)]
    return [make, [python, "-m", "pip", "install", "-q", *packages]]


class Shell:
    """A user's shell with an empty home, and the clients that were added to its path."""

    def __init__(self, home: Path) -> None:
        home.chmod(0o700)
        self.home = home
        self.clients = home / "clients"
        self.clients.mkdir()
        self.environment = {
            "PATH": f"{self.clients}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "AI_STACK_PORT": str(free_port()),
            "AI_STACK_LLAMA_CPP_PORT": str(free_port()),
            "LLAMA_CPP_DEFAULT_MODEL": str(home / "caller.gguf"),
            "LLAMA_CPP_CTX_SIZE": "4096",
        }

    def add(self, name: str) -> None:
        program, *packages = CLIENTS[name]
        if name == "aider" and sys.version_info[:2] > NEWEST_FOR_AIDER:
            pytest.skip("aider needs Python 3.12 or older")
        link = self.clients / program
        if not link.exists():
            # Not a link: a Python that is called by one would not find its own environment.
            link.write_text(f'#!/bin/sh\nexec {install(name, *packages) / program} "$@"\n')
            link.chmod(0o755)

    def __call__(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said = done.stdout + done.stderr
        assert done.returncode == status, f"{command} exited {done.returncode}\n{said}"
        return said

    def stack(self, *arguments: str, status: int = 0) -> str:
        return self(sys.executable, "-m", "ai_stack", *arguments, status=status)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("home")
    gguf.write_chat(home / "caller.gguf", name="caller", say=CALL)
    made = Shell(home)
    try:
        made.stack("up", "--detach")
        yield made
    finally:
        made.stack("down")


@pytest.mark.parametrize("name", ["llm", "sgpt", "openai", "aider"])
def test_a_client_proves_itself(name: str, shell: Shell) -> None:
    shell.add(name)
    said = shell.stack("connect", name, "--verify")
    assert [line.split()[1] for line in said.splitlines() if " through " in line] == ["ok"] * 4
    itself = {"llm": 2, "sgpt": 1, "openai": 4, "aider": 2}[name]
    assert said.count(f"through {name}") == itself


@pytest.mark.parametrize("name", ["cursor", "vscodium", "continue"])
def test_what_an_editor_would_ask_is_answered(name: str, shell: Shell) -> None:
    said = shell.stack("connect", name, "--verify")
    assert said.count("through HTTP") == said.count(" ok ") == 4


def test_what_is_asked_of_one_shell_line_is_all_that_it_prints(shell: Shell) -> None:
    shell.add("openai")
    line = 'eval "$(ai-stack connect openai)" && python3 -c "$0"'
    program = "import openai; print([m.id for m in openai.OpenAI().models.list()])"
    assert "'caller'" in shell("bash", "-c", line, program)


def test_llm_calls_functions_and_keeps_to_a_schema(shell: Shell) -> None:
    shell.add("llm")
    shell.stack("connect", "llm")
    ask = ("llm", "-m", "ai-stack", "--no-log")
    code = "def report(ok: bool):\n  'Says it.'\n  open('called', 'w').write(str(ok))"
    said = shell(*ask, "--chain-limit", "2", "--functions", code, "Report.", status=1)
    assert "Chain limit" in said, "the model calls the function again and again"
    assert (shell.home / "called").read_text() == "True"
    assert isinstance(json.loads(shell(*ask, "--schema", "ok bool", "Report."))["ok"], bool)


def test_aider_knows_the_real_context_length(shell: Shell) -> None:
    shell.add("aider")
    shell.stack("connect", "aider")
    said = shell("aider", *AIDER, "--message", "/tokens")
    assert "4,096 tokens max context window size" in said


def test_the_doctor_sees_a_client_that_is_left_behind(shell: Shell) -> None:
    shell.stack("connect", "sgpt")
    assert "Nothing is wrong" in shell.stack("doctor")
    file = shell.home / ".config/shell_gpt/.sgptrc"
    text = file.read_text()
    file.write_text(text.replace("DEFAULT_MODEL=caller", "DEFAULT_MODEL=gone"))
    assert "sgpt asks for the model gone" in shell.stack("doctor", status=1)
    file.write_text(text.replace("127.0.0.1:", "127.0.0.9:"))
    assert "ai-stack connect sgpt" in shell.stack("doctor", status=1)
    file.write_text(text)


def test_a_proof_fails_when_the_model_is_gone(shell: Shell) -> None:
    shell.add("llm")
    shell.stack("connect", "llm")
    file = shell.home / ".config/io.datasette.llm/extra-openai-models.yaml"
    file.write_text(file.read_text().replace("caller", "gone"))
    shell("llm", "-m", "ai-stack", "--no-log", "Say ok.", status=1)


def test_the_stack_says_where_it_is(shell: Shell) -> None:
    found = json.loads((shell.home / ".config/nixos-ai-stack/ai-optimizer.json").read_text())
    assert found["address"] == f"http://127.0.0.1:{shell.environment['AI_STACK_PORT']}"
    assert found["clients"]["llm"]["model"] == "caller"


@pytest.fixture
def asking(shell: Shell) -> Iterator[str]:
    """A key whose existence has the gateway ask for keys; all are revoked in the end."""
    shell.stack("connect", "sgpt")
    made = json.loads(shell.stack("keys", "create", "first", "--scope", "read", "--json"))
    yield made["key"]
    for key in json.loads(shell.stack("keys", "list", "--json"))["items"]:
        shell.stack("keys", "revoke", key["id"])


def test_clients_get_keys_where_the_gateway_asks_for_them(shell: Shell, asking: str) -> None:
    assert "sgpt shows no key" in shell.stack("doctor", status=1)
    for name in ("llm", "openai"):
        shell.add(name)
        said = shell.stack("connect", name, "--verify")
        assert [line.split()[1] for line in said.splitlines() if " through " in line] == ["ok"] * 4
        assert f"for {name} (read, infer)" in said
        assert "Made" not in shell.stack("connect", name)
    shell.stack("connect", "cursor")
    server = json.loads((shell.home / ".cursor/mcp.json").read_text())["mcpServers"]["ai-stack"]
    asked = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accepted = {"Accept": "application/json, text/event-stream"}
    assert httpx.post(server["url"], json=asked, headers=accepted).status_code == 401
    reply = httpx.post(server["url"], json=asked, headers={**accepted, **server["headers"]})
    assert (reply.status_code, "result" in reply.json()) == (200, True)
    keys = {
        k["name"]: k["scopes"] for k in json.loads(shell.stack("keys", "list", "--json"))["items"]
    }
    assert keys["cursor"] == ["infer", "read", "skills", "write"]


def test_a_shell_with_few_rights_is_told_what_to_do(shell: Shell, asking: str) -> None:
    said = shell("env", "AI_STACK_KEY=wrong", "ai-stack", "connect", "sgpt", status=1)
    assert "The gateway asks who you are: set AI_STACK_KEY, or run `ai-stack login`." in said
    assert "asks who you are" in shell("env", "AI_STACK_KEY=wrong", "ai-stack", "doctor", status=1)
    shell("env", f"AI_STACK_KEY={asking}", "ai-stack", "connect", "sgpt")
    assert asking in (shell.home / ".config/shell_gpt/.sgptrc").read_text()
