"""Skills as tests run them: alone in a folder, and by the examples that they ship."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.skill import Context, Skill, SkillResult
from ai_stack.skill.context import Calls, offline
from ai_stack.skill.discovery import OURS, load

ANYTHING = "…"
EXAMPLES = "examples.json"


def bound(name: str, folder: Path, calls: Calls = offline) -> Skill:
    """One of our skills, whose artifacts land in `folder`/out."""
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    return load(OURS / name)(Context(out, scratch, calls))


async def run(name: str, folder: Path, calls: Calls = offline, /, **arguments: Any) -> SkillResult:
    """One run of a skill of ours."""
    return await bound(name, folder, calls).execute(**arguments)


@dataclass(frozen=True)
class Example:
    """One of a skill's own examples: what goes in, and what comes out of it."""

    skill: str
    about: str
    parameters: Mapping[str, Any]
    output: Any
    artifacts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.skill}: {self.about}"


def examples(name: str) -> Iterator[Example]:
    """The examples of a skill; `example:NAME` in their parameters is a file of its `examples`."""
    file = OURS / name / EXAMPLES
    for found in json.loads(file.read_text()) if file.is_file() else ():
        yield Example(
            name,
            found["about"],
            placed(found["parameters"], OURS / name / "examples"),
            found["output"],
            tuple(found.get("artifacts", ())),
        )


def placed(value: Any, folder: Path) -> Any:
    """The value with the paths of the example's files in place of their names."""
    if isinstance(value, str) and value.startswith("example:"):
        return str(folder / value.removeprefix("example:"))
    if isinstance(value, list):
        return [placed(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: placed(item, folder) for key, item in value.items()}
    return value


def differences(expected: Any, found: Any, place: str = "output") -> list[str]:
    """Where an output is not what was expected; what an example leaves out may be anything."""
    if expected == ANYTHING:
        return []
    if isinstance(expected, dict) and isinstance(found, Mapping):
        lost = [f"{place}.{key} is missing" for key in expected if key not in found]
        return lost + [
            line
            for key in expected
            if key in found
            for line in differences(expected[key], found[key], f"{place}.{key}")
        ]
    if isinstance(expected, list) and isinstance(found, list | tuple):
        if len(expected) != len(found):
            return [f"{place} has {len(found)} items, not {len(expected)}"]
        return [
            line
            for n, item in enumerate(expected)
            for line in differences(item, found[n], f"{place}.{n}")
        ]
    if isinstance(expected, str) and isinstance(found, str) and ANYTHING in expected:
        head, _, tail = expected.partition(ANYTHING)
        fits = found.startswith(head) and found.endswith(tail)
        return [] if fits else [f"{place} is {found!r}, not {expected!r}"]
    return [] if expected == found else [f"{place} is {found!r}, not {expected!r}"]
