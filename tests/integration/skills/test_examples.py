"""Every example of every skill, and what each folder must hold."""

import json
from pathlib import Path

import pytest

from ai_stack.skill.discovery import OURS, SCHEMA, derived_schema, discover_skills
from skills import EXAMPLES, Example, differences, examples, run

SKILLS = discover_skills()
ACTING = [name for name, skill in SKILLS.items() if skill.acts]


def test_no_skill_of_ours_is_broken() -> None:
    assert dict(SKILLS.broken) == {}


@pytest.mark.parametrize("name", ACTING)
def test_its_schema_is_the_one_of_its_arguments(name: str) -> None:
    assert json.loads((OURS / name / SCHEMA).read_text()) == derived_schema(OURS / name), (
        "run `make docs`"
    )


@pytest.mark.parametrize("name", ACTING)
def test_every_action_has_an_example(name: str) -> None:
    actions = derived_schema(OURS / name)["properties"]["action"]["enum"]
    shown = {e.parameters.get("action", actions[0]) for e in examples(name)}
    assert set(actions) - shown == set(), f"{name}/{EXAMPLES} lacks them"


@pytest.mark.parametrize("example", [e for name in ACTING for e in examples(name)], ids=str)
async def test_example(example: Example, tmp_path: Path) -> None:
    result = await run(example.skill, tmp_path, **example.parameters)
    assert differences(example.output, json.loads(json.dumps(dict(result.output)))) == []
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(example.artifacts)
