"""From an empty home to a client that is proved to work, by the program that is installed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed, SkillResult
from clients import Played, gateway
from skills import run
from stacks import free_port

SKILL = "system-bootstrap"
CAPABILITIES = ["chat", "stream", "tools", "embeddings"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a PATH on which no client is."""
    for variable in [v for v in os.environ if v.startswith(("AI_STACK_", "XDG_", "LLM_"))]:
        monkeypatch.delenv(variable)
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("AI_STACK_PORT", str(free_port()))
    return place


@pytest.fixture
def played() -> Iterator[Played]:
    with gateway() as found:
        yield found


async def work(home: Path, action: str, /, **arguments: Any) -> SkillResult:
    return await run(SKILL, home.parent, action=action, **arguments)


def written(home: Path) -> list[str]:
    return sorted(p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file())


async def test_from_an_empty_home_to_a_verified_client(home: Path, played: Played) -> None:
    wish = {"clients": ["continue"], "url": played.url}
    planned = await work(home, "plan", **wish)
    step = planned.output["steps"][0]
    assert (step["step"], step["needed"]) == ("connect continue", True)
    assert step["files"] == [str(home / ".continue/config.yaml")]
    assert written(home) == []

    applied = await work(home, "apply", **wish)
    step = applied.output["steps"][0]
    assert applied.output["ok"] and step["done"], step
    assert [proof["capability"] for proof in step["verified"]] == CAPABILITIES
    assert step["written"][0]["changed"] is True
    assert played.url in (home / ".continue/config.yaml").read_text()

    after = await work(home, "verify", **wish)
    client = after.output["clients"][0]
    assert client["works"] and client["configured"] and client["model"] == "small-chat"
    assert [p["failure"] for p in client["verified"]] == [""] * 4
    again = await work(home, "plan", **wish)
    assert again.output["steps"][0]["needed"] is False


async def test_a_planted_fault_is_named(home: Path, played: Played) -> None:
    wish = {"clients": ["aider"], "url": played.url}
    played.broken.add("/v1/embeddings")
    applied = await work(home, "apply", **wish)
    assert not applied.output["ok"] and "embeddings" in applied.output["steps"][0]["fault"]
    result = await work(home, "verify", **wish)
    failed = [p for p in result.output["clients"][0]["verified"] if p["failure"]]
    assert [p["capability"] for p in failed] == ["embeddings"]
    assert "planted failure" in result.output["clients"][0]["fault"]


async def test_a_stack_that_is_down_is_a_step(home: Path) -> None:
    result = await work(home, "plan", clients=["cursor"], start=True)
    first, second = result.output["steps"]
    assert (first["step"], first["needed"]) == ("start", True)
    assert first["command"] == "ai-stack up --detach"
    assert second["why"].startswith("It cannot be told yet")
    assert any(f["check"] == "stack" for f in result.output["findings"])
    assert result.output["checks"] > 15 and written(home) == []


async def test_a_client_without_a_stack_fails_with_a_sentence(home: Path) -> None:
    result = await work(home, "apply", clients=["llm"])
    fault = result.output["steps"][0]["fault"]
    assert not result.output["ok"] and fault and "Traceback" not in fault


async def test_a_broken_file_of_a_client_is_left_as_it_is(home: Path, played: Played) -> None:
    file = home / ".continue/config.yaml"
    file.parent.mkdir()
    file.write_text("models: [\n")
    result = await work(home, "apply", clients=["continue"], url=played.url)
    assert not result.output["ok"] and "config.yaml" in result.output["steps"][0]["fault"]
    assert file.read_text() == "models: [\n"


async def test_a_dry_run_changes_nothing(home: Path, played: Played) -> None:
    result = await work(home, "apply", clients=["cursor"], url=played.url, dry_run=True)
    assert result.output["steps"][0]["done"] is False and written(home) == []


async def test_settings_that_are_broken_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_STACK_PORT", "many")
    result = await work(home, "verify")
    assert not result.output["ok"] and "AI_STACK_PORT" in str(result.output["findings"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clients", ["emacs; rm"]),
        ("url", "http://10.0.0.1:80"),
        ("url", "http://127.0.0.1:80/$(x)"),
        ("url", "--help"),
        ("model", "--print"),
        ("pull", "-x"),
        ("pull", "a b"),
    ],
)
async def test_arguments_are_of_closed_sets(home: Path, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=field):
        await work(home, "apply", **{field: value})


async def test_a_missing_program_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(home / "python"))
    with pytest.raises(SkillFailed, match="ai-stack is not beside"):
        await work(home, "plan")
