"""A created skill is discovered, runs and validates; a broken one is told what is wrong."""

import ast
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ai_stack.errors import InvalidRequest
from ai_stack.skill import Context, SkillFailed, SkillResult
from ai_stack.skill.discovery import derived_schema, discover_skills
from skills import run

SKILL = "skill-creator"
ABOUT = "Greets somebody in a language. Use it when a message needs an opening."
EVERY = [
    {"name": kind, "type": kind, "description": f'A "{kind}" \\ {{x}}'}
    for kind in ("text", "integer", "number", "boolean", "file", "folder", "texts")
]
CHOICE = {"name": "tone", "type": "choice", "choices": ["kind", 'it"s'], "description": "How."}
COUNTS = '''"""Counts letters."""

from typing import Annotated

from pydantic import Field

from ai_stack.skill import Skill, SkillResult, action

from .letters import count


class Letters(Skill):
    @action
    async def count(self, text: Annotated[str, Field(description="Text.")]) -> SkillResult:
        """Count letters."""
        self.context.artifact("count.txt").write_text(str(count(text)))
        return SkillResult({"letters": count(text)})
'''
EXAMPLE = {
    "about": "Three.", "parameters": {"text": "abc"}, "output": {"letters": 3},
    "artifacts": ["count.txt"],
}  # fmt: skip


async def new(folder: Path, /, name: str = "greet", **arguments: Any) -> SkillResult:
    arguments.setdefault("description", ABOUT)
    return await run(SKILL, folder, action="new", name=name, **arguments)


def unpacked(folder: Path, name: str = "greet") -> Path:
    """The skills folder into which an archive was unpacked."""
    place = folder / "skills"
    with zipfile.ZipFile(folder / f"out/{name}.zip") as archive:
        archive.extractall(place)
    return place


async def test_a_created_skill_is_discovered_runs_and_validates(tmp_path: Path) -> None:
    actions = [
        {"name": "greet", "summary": 'Greet "somebody"', "arguments": [*EVERY, CHOICE]},
        {
            "name": "part",
            "summary": "Part",
            "arguments": [
                {"name": "times", "type": "integer", "default": 3, "description": "How often."},
                {"name": "who", "description": "Whom."},
            ],
        },
        {"name": "rest", "summary": "Rest"},
    ]
    await new(tmp_path, actions=actions)
    place = unpacked(tmp_path)
    found = discover_skills(place)
    assert [*found] == ["greet"] and not found.broken and found["greet"].description == ABOUT
    schema = derived_schema(place / "greet")
    assert schema["properties"]["action"]["enum"] == ["greet", "part", "rest"]
    assert schema["properties"]["tone"]["enum"] == ["kind", 'it"s']
    out, scratch = tmp_path / "made", tmp_path / "gone"
    out.mkdir()
    scratch.mkdir()
    skill = found["greet"].bound(Context(out, scratch))
    result = await skill.execute(action="part", who="Ada")
    assert result.output == {"who": "Ada", "times": 3}
    with pytest.raises(InvalidRequest, match="who"):
        await skill.execute(action="part")
    told = await run(SKILL, tmp_path, action="validate", folder=str(place / "greet"))
    assert told.output == {"valid": True, "name": "greet", "errors": [], "warnings": []}
    tried = await run(SKILL, tmp_path, action="test", folder=str(place / "greet"))
    assert (tried.output["passed"], tried.output["failed"], tried.output["fault"]) == (3, 0, "")


async def test_a_skill_of_own_code_with_modules_passes_its_examples(tmp_path: Path) -> None:
    files = {
        "letters.py": '"""Letters."""\n\n\ndef count(text: str) -> int:\n    return len(text)\n'
    }
    await new(
        tmp_path, "letters", code=COUNTS, files=files, examples=[EXAMPLE],
        permissions={"memory": "64 MiB"},
    )  # fmt: skip
    place = unpacked(tmp_path, "letters")
    assert discover_skills(place)["letters"].manifest.permissions.memory_bytes == 64 << 20
    result = await run(SKILL, tmp_path, action="test", folder=str(place / "letters"))
    assert result.output["passed"] == 1 and not (place / "letters/__pycache__").exists()


async def test_a_skill_of_instructions_is_one_too(tmp_path: Path) -> None:
    await new(tmp_path, instructions="# Greet\n\nSay [hello](references/words.md).\n",
              files={"references/words.md": "hello"})  # fmt: skip
    place = unpacked(tmp_path)
    assert not discover_skills(place)["greet"].acts
    with pytest.raises(SkillFailed, match="instructions"):
        await run(SKILL, tmp_path, action="test", folder=str(place / "greet"))


async def test_the_same_folder_is_always_the_same_archive(tmp_path: Path) -> None:
    await new(tmp_path)
    folder = unpacked(tmp_path) / "greet"
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x.pyc").write_bytes(b"x")
    for _ in range(2):
        await run(SKILL, tmp_path, action="package", folder=str(folder))
    made = sorted((tmp_path / "out").glob("greet*.zip"))
    assert len(made) == 3 and len({path.read_bytes() for path in made}) == 1


async def test_an_unpacked_archive_is_found_below_its_root(tmp_path: Path) -> None:
    await new(tmp_path)
    result = await run(SKILL, tmp_path, action="validate", folder=str(unpacked(tmp_path)))
    assert result.output["name"] == "greet"


def written(folder: Path, code: str, body: str = "# It\n", name: str = "bad") -> Path:
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "SKILL.md").write_text(
        f"---\nname: {name}\ndescription: {ABOUT}\nlicense: MIT\n---\n{body}"
    )
    (place / "skill.py").write_text(code)
    return place


@pytest.mark.parametrize(
    ("code", "line", "told"),
    [
        ("x = (\n", 1, "not Python"),
        ("x = 1\n", 1, "it defines 0"),
        (COUNTS + COUNTS.split("\n\n\n")[1], 1, "it defines 2"),
        (COUNTS.replace("    @action\n", ""), 12, "no method marked"),
        (COUNTS.replace("async def", "def"), 14, "`async def`"),
        (COUNTS.replace('"""Count letters."""', "pass"), 14, "docstring"),
        (COUNTS.replace('text: Annotated[str, Field(description="Text.")]', "text"), 14, "no type"),
        (COUNTS.replace("self, text", "self, *more: str, text"), 14, "one by one"),
        (COUNTS + "\nfrom ai_stack.stack import open_stack\n", 19, "not ai_stack.stack"),
        (COUNTS + "\nimport ai_stack.skill.discovery\n", 19, "ai_stack.skill alone"),
    ],
)
async def test_what_is_wrong_with_code_is_told_with_its_line(
    tmp_path: Path, code: str, line: int, told: str
) -> None:
    place = written(tmp_path, code)
    result = await run(SKILL, tmp_path, action="validate", folder=str(place))
    found = [(e["line"], e["message"]) for e in result.output["errors"]]
    assert any(n == line and told in message for n, message in found), found
    with pytest.raises(SkillFailed, match=r"skill\.py:"):
        await run(SKILL, tmp_path, action="test", folder=str(place))
    assert not [*(tmp_path / "out").iterdir()]


async def test_validation_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    place = written(tmp_path, f"open({str(mark)!r}, 'w')\n" + COUNTS)
    await run(SKILL, tmp_path, action="validate", folder=str(place))
    assert not mark.exists()


async def test_links_are_followed_and_texts_weighed(tmp_path: Path) -> None:
    body = "# It\n[a](none.md) [b](../../etc/passwd) [c](https://example.org) [d](skill.py#x)\n"
    place = written(tmp_path, COUNTS, body)
    (place / "letters.py").write_text("def count(t): return len(t)\n")
    result = await run(SKILL, tmp_path, action="validate", folder=str(place))
    assert [(e["line"], e["message"]) for e in result.output["errors"]] == [
        (7, "The link none.md leads to no file."),
        (7, "The link ../../etc/passwd leads out of the folder."),
    ]
    assert "no examples" in result.output["warnings"][0]["message"]


async def test_a_failing_example_is_told_and_the_others_run(tmp_path: Path) -> None:
    wrong = {**EXAMPLE, "output": {"letters": 4}, "artifacts": []}
    broken = {**EXAMPLE, "parameters": {"txt": "abc"}}
    files = {
        "letters.py": '"""Letters."""\n\n\ndef count(text: str) -> int:\n    return len(text)\n'
    }
    await new(tmp_path, "letters", code=COUNTS, files=files, examples=[wrong, broken, EXAMPLE])
    place = unpacked(tmp_path, "letters") / "letters"
    result = await run(SKILL, tmp_path, action="test", folder=str(place))
    assert (result.output["passed"], result.output["failed"]) == (1, 2)
    rows = result.output["examples"]
    assert rows[0]["differences"] == [
        "output.letters is 3, not 4",
        "artifacts are ['count.txt'], not []",
    ]
    assert "InvalidRequest" in rows[1]["differences"][0]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import time\ntime.sleep(60)\n", "ended after 1 s"),
        ("raise RuntimeError('no')\n", "RuntimeError: no"),
        ("import os\nos._exit(3)\n", "status 3"),
        ("import sys\nsys.stderr.write('x' * 9_000_000)\nraise RuntimeError('full')\n", "full"),
    ],
)
async def test_code_that_hangs_or_falls_ends_and_is_told(
    tmp_path: Path, code: str, told: str
) -> None:
    place = written(tmp_path, code + COUNTS.replace("from .letters", "from math"))
    (place / "skill.py").write_text(
        code + COUNTS.replace("from .letters import count", "count = len")
    )
    result = await run(SKILL, tmp_path, action="test", folder=str(place), time_s=1)
    assert told in result.output["fault"] and result.output["passed"] == 0


async def test_the_trial_sees_no_secret_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_SECRET", "x")
    code = COUNTS.replace("from .letters import count", "import os\n\n\ndef count(t):\n    return "
                          "len([v for v in os.environ if v == 'OUR_SECRET'])\n")  # fmt: skip
    await new(tmp_path, "letters", code=code, examples=[{**EXAMPLE, "output": {"letters": 0}}])
    place = unpacked(tmp_path, "letters") / "letters"
    result = await run(SKILL, tmp_path, action="test", folder=str(place))
    assert result.output["passed"] == 1, result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "../x"}, "lowercase letters"),
        ({"name": "Greet"}, "lowercase letters"),
        ({"name": ""}, "lowercase letters"),
        ({"description": " "}, "`description` is missing"),
        ({"permissions": {"network": "all"}}, "none, host"),
        ({"files": {"../x": ""}}, "no path within"),
        ({"files": {"/x": ""}}, "no path within"),
        ({"files": {"skill.py": ""}}, "argument of its own"),
        ({"files": {"a": "", "a/b": ""}}, "cannot be written"),
        ({"files": {"a": "\ud800"}}, "cannot be written"),
        ({"code": "x", "actions": [{"name": "a", "summary": "b"}]}, "either `actions` or `code`"),
        ({"code": "x = 1\n"}, "it defines 0"),
        ({"actions": [{"name": "class", "summary": "b"}]}, "named class"),
        ({"actions": [{"name": "a", "summary": "b", "arguments": [CHOICE | {"choices": []}]}]},
         "needs choices"),
        ({"actions": [{"name": "a", "summary": "b", "arguments": [CHOICE, CHOICE]}]}, "tone"),
    ],
)  # fmt: skip
async def test_what_can_be_no_skill_is_refused(
    tmp_path: Path, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises((SkillFailed, InvalidRequest), match=told):
        await new(tmp_path, **arguments)
    assert not [*(tmp_path / "out").iterdir()]


async def test_texts_in_a_plan_are_never_code(tmp_path: Path) -> None:
    nasty = '"""\nimport os\nos._exit(1)\n"""  \\ {x} \' ü'
    argument = {"name": "a", "description": nasty, "default": nasty}
    await new(
        tmp_path, description=f"Use it when {nasty}",
        actions=[{"name": "go", "summary": nasty, "arguments": [argument]}],
    )  # fmt: skip
    tree = ast.parse((unpacked(tmp_path) / "greet/skill.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


async def test_links_and_masses_of_files_are_refused(tmp_path: Path) -> None:
    place = written(tmp_path, COUNTS)
    (place / "link").symlink_to("/etc")
    with pytest.raises(SkillFailed, match="is a link"):
        await run(SKILL, tmp_path, action="package", folder=str(place))
    (place / "link").unlink()
    (place / "big").write_bytes(b"\0" * ((32 << 20) + 1))
    with pytest.raises(SkillFailed, match="32 MiB"):
        await run(SKILL, tmp_path, action="validate", folder=str(place))
    with pytest.raises(SkillFailed, match=r"no SKILL\.md"):
        await run(SKILL, tmp_path, action="validate", folder=str(tmp_path / "out"))
