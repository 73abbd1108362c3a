"""Folders of skills that lie, hang or flood: each is told what is wrong, and harms no other."""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from ai_stack.errors import SkillFailed
from ai_stack.services.skills.apart import _used
from ai_stack.services.skills.execution import removed
from ai_stack.services.skills.schemas import is_whole
from ai_stack.skill.discovery import discover_skills
from ai_stack.skill.wire import error_of

HEAD = "---\nname: bad\ndescription: It is.\n"


def _unfolding() -> str:
    names = "abcdefgh"
    lines = [f"{n}: &{n} [{', '.join([f'*{m}'] * 10)}]" for m, n in pairwise(names)]
    return "\n".join([HEAD + "a: &a [x, x, x]", *lines, "metadata: {x: *h}", "---\n"])


@pytest.mark.parametrize(
    "put",
    [
        lambda file: file.symlink_to("/dev/zero"),
        lambda file: os.mkfifo(file),
        lambda file: file.write_text(_unfolding()),
        lambda file: file.write_text(f"{HEAD}x: [{'[a],' * 30_000}]\n---\n"),
    ],
    ids=["a device", "a pipe", "aliases", "a head without end"],
)
def test_a_head_that_would_not_end_is_a_fault(put: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    put(tmp_path / "bad" / "SKILL.md")
    assert [*discover_skills(tmp_path).broken] == ["bad"]


def test_a_number_in_a_head_stays_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    number = f"0x{'F' * 6000}"
    (tmp_path / "bad" / "SKILL.md").write_text(f"{HEAD}license: {number}\n---\n")
    assert discover_skills(tmp_path)["bad"].manifest.license == number


def test_a_schema_that_is_too_deep_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "SKILL.md").write_text(f"{HEAD}---\n")
    (tmp_path / "bad" / "schema.json").write_text("[" * 200_000)
    assert [*discover_skills(tmp_path).broken] == ["bad"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": 5},
        {"properties": [1], "anyOf": 7},
        {"$ref": "https://example.org/schema"},
        {"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}, "$ref": "#/$defs/A"},
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_checked_is_none(schema: dict[str, object]) -> None:
    assert not is_whole(schema)


def test_a_schema_that_can_be_checked_is_one() -> None:
    assert is_whole({"type": "object", "properties": {"x": {"type": "string"}}})


@pytest.mark.parametrize("told", [5, None, {"fields": 7}, {"code": [], "message": {}}], ids=str)
def test_an_error_of_another_form_is_a_failure_of_the_skill(told: object) -> None:
    assert type(error_of(told)) is SkillFailed


def test_a_folder_of_any_depth_is_told_and_removed(tmp_path: Path) -> None:
    top = tmp_path / "out"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("deeper", dir_fd=here)
        below = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(SkillFailed, match="too deep"):
        _used(os.getpid(), [top])
    removed(top)
    assert not top.exists()
