"""What a skill is: its SKILL.md, its arguments, its folder, and what its process says."""

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from ai_stack.errors import AlreadyExists, InvalidRequest, SkillFailed, Unavailable, Unsupported
from ai_stack.services.inference.schemas import compiled
from ai_stack.skill import Context, File, Folder, Skill, SkillResult, action
from ai_stack.skill.discovery import derived_schema, discover_skills
from ai_stack.skill.examples import differences, read_examples
from ai_stack.skill.manifest import parse_manifest, read_manifest
from ai_stack.skill.wire import error_json, error_of, result_json

CODE = '''
from ai_stack.skill import Skill, SkillResult, action
from .numbers import twice

class Doubling(Skill):
    @action
    async def double(self, number: int) -> SkillResult:
        """Double a number."""
        self.context.artifact("note.txt").write_text(str(twice(number)))
        return SkillResult({"doubled": twice(number)})
'''


class Line(BaseModel):
    text: str
    size: int = Field(12, ge=1)


class Poster(Skill):
    @action
    async def draw(
        self,
        lines: Annotated[list[Line], Field(description="What stands on it.")],
        paper: Literal["a4", "letter"] = "a4",
    ) -> SkillResult:
        """Draw a poster.

        It is large.
        """
        return SkillResult({"lines": [line.text for line in lines], "paper": paper})

    @action
    async def read(self, source: File, pages: list[int] | None = None) -> SkillResult:
        """Read one."""
        return SkillResult({"source": str(source), "pages": pages})


def head(**fields: str) -> str:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---", "# Title", "Do it."])


def make(folder: Path, name: str, code: str = CODE, **fields: str) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    (place / "SKILL.md").write_text(head(name=name, description="Doubles.", **fields))
    (place / "numbers.py").write_text('"""Numbers."""\ndef twice(n): return 2 * n\n')
    if code:
        (place / "skill.py").write_text(code)
    return place


def poster(folder: Path) -> Poster:
    return Poster(Context(folder, folder))


async def test_arguments_come_as_the_types_they_are_declared_as(tmp_path: Path) -> None:
    result = await poster(tmp_path).execute(action="draw", lines=[{"text": "a"}])
    assert result.output == {"lines": ["a"], "paper": "a4"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "action"),
        ({"action": "burn"}, "action"),
        ({"action": "draw"}, "lines"),
        ({"action": "draw", "lines": [{"text": "a", "size": 0}]}, "lines.0.size"),
        ({"action": "draw", "lines": [], "source": "x"}, "source"),
        ({"action": "draw", "lines": [], "paper": "a3"}, "paper"),
    ],
)
async def test_a_wrong_argument_is_named(given: dict, field: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await poster(tmp_path).execute(**given)
    assert field in refused.value.fields
    assert not compiled(dict(Poster.arguments.schema)).takes(given)


def test_the_schema_takes_what_the_skill_takes(tmp_path: Path) -> None:
    schema = poster(tmp_path).parameters
    assert schema["properties"]["source"]["format"] == "file"
    assert "draw: Draw a poster" in schema["properties"]["action"]["description"]
    validator = compiled(dict(schema))
    assert validator.takes({"action": "draw", "lines": [{"text": "a"}]})
    assert validator.takes({"action": "read", "source": "run:1/x", "pages": None})
    json.dumps(schema)


def test_one_action_need_not_be_named(tmp_path: Path) -> None:
    schema = derived_schema(make(tmp_path, "doubling"))
    assert schema["required"] == ["number"]
    assert schema["properties"]["action"]["default"] == "double"


def test_a_folder_is_a_format_of_its_own() -> None:
    class Tree(Skill):
        @action
        async def walk(self, folder: Folder) -> SkillResult:
            """Walk."""
            return SkillResult()

    assert Tree.arguments.schema["properties"]["folder"]["format"] == "folder"


async def test_discovery_imports_nothing_and_runs_by_name(tmp_path: Path) -> None:
    make(tmp_path, "doubling")
    make(tmp_path, "explosive", code="raise SystemExit('imported')")
    skills = discover_skills(tmp_path)
    assert sorted(skills) == ["doubling", "explosive"]
    result = await skills["doubling"].execute(action="double", number=21)
    assert result.output == {"doubled": 42}


def test_a_broken_folder_harms_no_other(tmp_path: Path) -> None:
    make(tmp_path, "doubling")
    make(tmp_path, "other").joinpath("SKILL.md").write_text(head(name="another", description="x"))
    (tmp_path / "empty").mkdir()
    (make(tmp_path, "binary") / "SKILL.md").write_bytes(b"\xff\xfe\x00")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file.txt").touch()
    skills = discover_skills(tmp_path)
    assert list(skills) == ["doubling"]
    assert set(skills.broken) == {"other", "empty", "binary"}
    assert "folder" in skills.broken["other"]


def test_a_folder_without_code_is_instructions(tmp_path: Path) -> None:
    make(tmp_path, "words", code="")
    skill = discover_skills(tmp_path)["words"]
    assert (skill.acts, skill.manifest.body) == (False, "# Title\nDo it.")
    with pytest.raises(Unsupported):
        skill.bound(Context(tmp_path, tmp_path))


def test_no_folder_is_no_skill(tmp_path: Path) -> None:
    assert dict(discover_skills(tmp_path / "absent")) == {}


@pytest.mark.parametrize("code", ["", "x = 1", CODE + "\nclass Second(Doubling):\n    pass\n"])
def test_a_skill_file_has_one_skill(code: str, tmp_path: Path) -> None:
    folder = make(tmp_path, "doubling", code=code or "\n")
    with pytest.raises(SkillFailed):
        derived_schema(folder)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"name": "Upper", "description": "x"}, "name"),
        ({"name": "a--b", "description": "x"}, "name"),
        ({"name": "-a", "description": "x"}, "name"),
        ({"name": "a" * 65, "description": "x"}, "name"),
        ({"name": "skill"}, "description"),
        ({"name": "skill", "description": "x" * 1025}, "description"),
        ({"name": "skill", "description": "x", "compatibility": "x" * 501}, "compatibility"),
        ({"name": "skill", "description": "x", "metadata": "[1]"}, "metadata"),
        ({"name": "skill", "description": "x", "metadata": "{ai-stack-network: all}"}, "network"),
        ({"name": "skill", "description": "x", "metadata": "{ai-stack-uses: root}"}, "uses"),
        ({"name": "skill", "description": "x", "metadata": "{ai-stack-memory: -1}"}, "memory"),
    ],
)
def test_a_fault_in_the_head_is_named(fields: dict[str, str], fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        parse_manifest(head(**fields), "skill")


@pytest.mark.parametrize("text", ["", "no head", "---\nname: x", "---\n- a\n---\n", "---\n{\n---"])
def test_what_has_no_head_is_no_skill(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_manifest(text, "skill")


def test_the_standard_is_read_whole_and_others_metadata_is_kept() -> None:
    text = (
        "---\nname: skill\ndescription: Use when: a colon, unquoted, comes along.\n"
        "license: Apache-2.0. See LICENSE.txt\ncompatibility: Needs git\n"
        "allowed-tools: Bash(git:*) Read\nmetadata:\n  author: someone\n  version: 1.0\n"
        "  ai-stack-uses: search documents:write\n  ai-stack-memory: 64 MiB\n"
        '  ai-stack-programs: "chromium|google-chrome git"\nunknown: field\n---\n\nBody.\n'
    )
    found = parse_manifest(text, "skill")
    assert found.description == "Use when: a colon, unquoted, comes along."
    assert found.allowed_tools == ("Bash(git:*)", "Read")
    assert found.metadata["version"] == "1.0"
    assert found.permissions.uses == ("search", "documents:write")
    assert found.permissions.memory_bytes == 64 << 20
    assert found.permissions.programs == ("chromium|google-chrome", "git")
    assert (found.permissions.network, found.permissions.isolation) == ("none", "apart")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs.txt", "", "..", "a\nb.txt", "x" * 300 + ".txt"]
)
def test_an_artifact_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    path = Context(tmp_path, tmp_path).artifact(name)
    assert path.parent == tmp_path
    path.touch()


def test_artifacts_do_not_take_each_others_place(tmp_path: Path) -> None:
    context = Context(tmp_path, tmp_path)
    context.artifact("a.txt").touch()
    assert context.artifact("a.txt").name == "a-2.txt"


async def test_without_a_stack_a_skill_goes_without_a_model(tmp_path: Path) -> None:
    context = Context(tmp_path, tmp_path)
    assert await context.generate("Hello") is None
    await context.progress(1, 2, "half")
    with pytest.raises(SkillFailed):
        await context.wanted("Hello")
    with pytest.raises(Unavailable):
        await context.search("x")


def test_errors_keep_their_kind_on_the_wire() -> None:
    told = json.loads(json.dumps(error_json(AlreadyExists("There is one.", fields={"id": "x"}))))
    found = error_of(told)
    assert (type(found), found.message, found.fields) == (
        AlreadyExists,
        "There is one.",
        {"id": "x"},
    )
    assert type(error_of({"code": "no such code"})) is SkillFailed


@pytest.mark.parametrize("output", [{"x": object()}, {"x": "y" * (9 << 20)}])
def test_an_output_that_is_no_json_or_too_much_is_a_failure(output: dict) -> None:
    with pytest.raises(SkillFailed):
        result_json(SkillResult(output))


def test_examples_tell_where_an_output_differs() -> None:
    expected = {"a": 1, "b": ["x", "…"], "c": {"d": "one…three"}}
    assert differences(expected, {"a": 1, "b": ["x", 5], "c": {"d": "one two three"}, "e": 0}) == []
    faults = differences(expected, {"a": 2, "b": ["x"], "c": {}})
    assert len(faults) == 3


def test_examples_of_another_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "examples.json").write_text('[{"about": "x"}]')
    with pytest.raises(InvalidRequest):
        read_examples(tmp_path)


async def test_the_files_beside_a_skill_are_its_package(tmp_path: Path) -> None:
    code = CODE.replace(
        "from .numbers import twice", "from . import numbers\ntwice = numbers.twice"
    )
    make(tmp_path, "packaged", code)
    result = await discover_skills(tmp_path)["packaged"].execute(number=2)
    assert result.output == {"doubled": 4}


async def test_skills_of_one_name_do_not_share_the_files_beside_them(tmp_path: Path) -> None:
    folders = [make(tmp_path / place, "alike") for place in ("one", "other")]
    (folders[1] / "numbers.py").write_text('"""Numbers."""\ndef twice(n): return 20 * n\n')
    found = [await discover_skills(f.parent)["alike"].execute(number=2) for f in folders]
    assert [result.output["doubled"] for result in found] == [4, 40]


def test_a_description_longer_than_the_standards_is_listed_but_not_valid(tmp_path: Path) -> None:
    folder = make(tmp_path, "wordy")
    (folder / "SKILL.md").write_text(head(name="wordy", description="word " * 300))
    assert "wordy" in discover_skills(tmp_path)
    with pytest.raises(InvalidRequest, match="1024"):
        read_manifest(folder)
