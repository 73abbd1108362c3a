"""Skills as tests run them: alone in a folder, and by the examples that they ship."""

from pathlib import Path
from typing import Any

from ai_stack.skill import Context, Skill, SkillResult
from ai_stack.skill.context import Calls, offline
from ai_stack.skill.discovery import OURS, load
from ai_stack.skill.examples import EXAMPLES, Example, differences, read_examples

__all__ = ["EXAMPLES", "Example", "bound", "differences", "examples", "run"]


def bound(name: str, folder: Path, calls: Calls = offline) -> Skill:
    """One of our skills, whose artifacts land in `folder`/out."""
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    return load(OURS / name)(Context(out, scratch, calls))


async def run(name: str, folder: Path, calls: Calls = offline, /, **arguments: Any) -> SkillResult:
    """One run of a skill of ours."""
    return await bound(name, folder, calls).execute(**arguments)


def examples(name: str) -> list[Example]:
    """The examples of a skill of ours."""
    return read_examples(OURS / name)
