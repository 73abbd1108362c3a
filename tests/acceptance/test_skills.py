"""Skills as a new user meets them: a stack from an empty home, its list, and a run of each."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ai_stack.skill.discovery import OURS, discover_skills
from ai_stack.skill.examples import EXAMPLES, differences
from shells import Shell

LEAST_READY = 22
OF_ROOT = {"ai-service-management": "started by root"}  # its parts do not command it then
SKILLS = [name for name, skill in discover_skills().items() if skill.acts]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = Shell(tmp_path_factory.mktemp("home"))
    try:
        made("up", "--detach")
        yield made
    finally:
        made("down")


def listed(shell: Shell) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(shell("skills", "list", "--json"))["items"]}


def test_all_are_listed_and_most_are_ready(shell: Shell) -> None:
    found = listed(shell)
    assert set(SKILLS) <= set(found)
    assert sum(one["ready"] for one in found.values()) >= LEAST_READY
    assert all(one["ready"] or one["missing"] for one in found.values())


@pytest.mark.parametrize("name", SKILLS)
def test_from_the_list_to_a_finished_run(name: str, shell: Shell, tmp_path: Path) -> None:
    """Its first example, from the shell: files are sent, artifacts are fetched."""
    example = json.loads((OURS / name / EXAMPLES).read_text())[0]
    parameters = sent(shell, example["parameters"], OURS / name / "examples")
    asked = ("skills", "run", name, "--parameters", json.dumps(parameters), "--json")
    skill = listed(shell)[name]
    if not skill["ready"]:
        assert skill["missing"] in shell(*asked, status=1)
        return
    if os.getuid() == 0 and name in OF_ROOT:
        assert OF_ROOT[name] in shell(*asked, status=1)
        return
    run = json.loads(shell(*asked, "--output", str(tmp_path)))
    assert run["status"] == "succeeded", run.get("error")
    assert differences(example["output"], run["output"]) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(example.get("artifacts", ()))


def sent(shell: Shell, value: Any, folder: Path) -> Any:
    """The parameters with each file of the example given to the stack."""
    if isinstance(value, str) and value.startswith("example:"):
        return shell.give(folder / value.removeprefix("example:"))
    if isinstance(value, list):
        return [sent(shell, item, folder) for item in value]
    if isinstance(value, dict):
        return {key: sent(shell, item, folder) for key, item in value.items()}
    return value


def test_a_skill_of_ones_own_is_there_at_once(shell: Shell) -> None:
    shell("skills", "new", "my-echo", "--description", "Echoes: what I say.")
    assert "works" in shell("skills", "test", f"{shell.home}/.config/nixos-ai-stack/skills/my-echo")
    assert "hello" in shell("skills", "run", "my-echo", "text=hello")
