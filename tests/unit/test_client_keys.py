"""Each client gets a key of its own where the gateway asks for keys, and nothing more than that."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ai_stack.cli import credentials, main
from ai_stack.cli.clients import CHAT_SCOPES, NAMES, keys
from ai_stack.settings import load_settings
from clients import Played, gateway

FILED = [name for name in NAMES if name != "openai"]
OWN, LOGIN = "aidb_own", "aidb_login_own"
EVERYTHING = ["read", "write", "infer", "skills", "agent", "manage", "operate"]
FILES = {
    "aider": ".aider.conf.yml",
    "continue": ".continue/config.yaml",
    "cursor": ".cursor/mcp.json",
    "vscodium": ".config/VSCodium/User/mcp.json",
    "llm": ".config/io.datasette.llm/keys.json",
    "sgpt": ".config/shell_gpt/.sgptrc",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in [v for v in os.environ if v.startswith(("AI_STACK_", "XDG_", "LLM_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


@pytest.fixture
def asking(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    """A gateway that asks for keys, at which this shell has logged in."""
    with gateway(keys={LOGIN: EVERYTHING}) as played:
        monkeypatch.setenv("AI_STACK_URL", played.url)
        credentials.save(home / ".config/nixos-ai-stack", played.url, LOGIN)
        yield played


@pytest.fixture
def connect(asking: Played, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str, url: str = "") -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["connect", *arguments, *(("--url", url) if url else ())])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return run


def written(home: Path) -> str:
    """All that `connect` has written for clients."""
    own = home / ".config/nixos-ai-stack"
    paths = (p for p in home.rglob("*") if p.is_file() and own not in p.parents)
    return "".join(p.read_text() for p in paths)


@pytest.mark.parametrize("name", FILED)
def test_a_client_gets_a_key_of_its_own_once(name: str, connect, home: Path, asking) -> None:
    assert connect(name)[0] == 0
    (key,) = set(asking.keys) - {LOGIN}
    tools = name in ("cursor", "vscodium")
    assert asking.keys[key] == ["read", "write", "infer", "skills"] if tools else ["read", "infer"]
    assert key in (home / FILES[name]).read_text()
    assert (home / FILES[name]).stat().st_mode & 0o777 == 0o600
    assert "aidb_login" not in written(home)
    status, said = connect(name)
    assert (status, "wrote" in said, "Made" in said) == (0, False, False)
    assert set(asking.keys) == {LOGIN, key}
    kept = home / ".config/nixos-ai-stack/client-keys.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert key not in (home / ".config/nixos-ai-stack/ai-optimizer.json").read_text()


def test_a_key_takes_the_place_of_none_and_of_one_that_is_revoked(
    connect, home: Path, asking: Played
) -> None:
    keys, asking.keys = asking.keys, {}
    file = home / ".aider.conf.yml"
    assert connect("aider")[0] == 0
    assert "openai-api-key: local" in file.read_text()
    file.chmod(0o644)
    asking.keys = keys
    status, said = connect("aider")
    assert (status, "Made key made1 for aider (read, infer)" in said) == (0, True)
    assert "openai-api-key: aidb_made1" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600, "the key is for the user's eyes"
    del asking.keys["aidb_made1"]
    asking.keys["aidb_other"] = []
    assert connect("aider")[0] == 0
    assert "openai-api-key: aidb_made2" in file.read_text()


def test_a_proof_shows_the_clients_own_key(connect, asking: Played) -> None:
    status, said = connect("continue", "--verify")
    assert (status, said.count(" ok ")) == (0, 4)
    assert asking.shown["/v1/chat/completions"] == "aidb_made1"
    assert asking.shown["/v1/models"] == LOGIN


def test_a_shell_that_makes_no_keys_says_what_to_do(connect, home: Path, asking: Played) -> None:
    asking.keys[LOGIN] = ["read", "infer"]
    status, said = connect("aider")
    assert (status, "ai-stack connect aider --key KEY" in said) == (0, True)
    assert "openai-api-key: local" in (home / ".aider.conf.yml").read_text()
    asking.keys["aidb_given"] = ["read", "infer"]
    assert connect("aider", "--key", "aidb_given")[0] == 0
    assert connect("aider")[0] == 0
    assert "openai-api-key: aidb_given" in (home / ".aider.conf.yml").read_text()
    status, said = connect("aider", "--key", "aidb_wrong")
    assert (status, "does not know this key" in said) == (1, True)


@pytest.mark.parametrize("key", [LOGIN, "aidb_operator_1_2", "two\nlines", "a b", "ключ", ""])
def test_what_is_no_key_reaches_no_client(key: str, connect, home: Path, asking: Played) -> None:
    status, _ = connect("sgpt", "--key", key)
    assert status in (1, 2)
    assert written(home) == ""


def test_the_key_of_the_settings_is_for_their_gateway_alone(
    connect, home: Path, asking: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.keys[OWN] = ["read", "infer"]
    monkeypatch.setenv("AI_STACK_KEY", OWN)
    assert connect("sgpt")[0] == 0
    assert f"OPENAI_API_KEY={OWN}\n" in (home / ".config/shell_gpt/.sgptrc").read_text()
    assert set(asking.keys) == {LOGIN, OWN}
    monkeypatch.setenv("AI_STACK_URL", "http://127.0.0.1:9")
    assert connect("llm", url=asking.url)[0] == 0, "the login there is enough to make one"
    assert OWN not in (home / ".config/io.datasette.llm/keys.json").read_text()
    credentials.save(home / ".config/nixos-ai-stack", asking.url, None)
    status, said = connect("llm", url=asking.url)
    assert (status, "pass its key by --key" in said) == (1, True)
    assert asking.shown["/v1/models"] == ""


def test_who_is_not_known_is_told_what_to_do(connect, home: Path, asking: Played) -> None:
    asking.keys = {"aidb_other": []}
    for more in ((), ("--model", "small-chat")):
        status, said = connect("aider", *more)
        told = "The gateway asks who you are: set AI_STACK_KEY, or run `ai-stack login`."
        assert (status, told in said, written(home)) == (1, True, "")


def test_printing_and_a_malformed_file_make_no_key(connect, home: Path, asking: Played) -> None:
    status, said = connect("cursor", "--print")
    assert (status, "`ai-stack connect cursor` makes one" in said) == (0, True)
    (home / ".cursor").mkdir()
    (home / ".cursor/mcp.json").write_text("{")
    assert connect("cursor")[0] == 1
    assert set(asking.keys) == {LOGIN}


def test_lines_for_a_shell_have_the_key_and_nothing_else(
    home: Path, asking: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    for made in (True, False):
        with pytest.raises(SystemExit):
            main(["connect", "openai"])
        said = capsys.readouterr()
        assert "export OPENAI_API_KEY=aidb_made1" in said.out
        assert all(line.startswith("export OPENAI_") for line in said.out.splitlines())
        assert ("Made key made1" in said.err) == made


def test_a_key_in_a_projects_files_is_told(connect, home: Path, asking: Played) -> None:
    folder = home / "work"
    folder.mkdir()
    (folder / ".cursor").mkdir()
    theirs = {"mcpServers": {"ai-stack": {"url": "x", "headers": {"X-Project": "mine"}}}}
    (folder / ".cursor/mcp.json").write_text(json.dumps(theirs))
    _, said = connect("cursor", "--project-dir", str(folder))
    assert "keep it out of what you commit" in said
    server = json.loads((folder / ".cursor/mcp.json").read_text())["mcpServers"]["ai-stack"]
    assert server["headers"] == {"X-Project": "mine", "Authorization": "Bearer aidb_made1"}


def test_connecting_at_once_makes_one_key(asking: Played) -> None:
    wanted = keys.Wanted("llm", asking.url, CHAT_SCOPES)
    with ThreadPoolExecutor(4) as pool:
        told = [
            pool.submit(keys.issue, load_settings(), wanted, None, may_make=True) for _ in range(4)
        ]
        assert {done.result().key for done in told} == {"aidb_made1"}
    assert set(asking.keys) == {LOGIN, "aidb_made1"}
