"""The examples that a skill ships: what goes in, what comes out; run as its tests.

`examples.json` beside SKILL.md is a list of `{"about", "parameters", "output", "artifacts"?}`. In
the parameters `example:NAME` is a file of the folder `examples`. An output may leave parts out, and
`…` in it stands for anything.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.errors import InvalidRequest

ANYTHING = "…"
EXAMPLES = "examples.json"


@dataclass(frozen=True, slots=True)
class Example:
    """One example; `artifacts` are the names of all files that it makes."""

    skill: str
    about: str
    parameters: Mapping[str, Any]
    output: Any
    artifacts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.skill}: {self.about}"


def read_examples(folder: Path) -> list[Example]:
    """The examples of a skill's folder; InvalidRequest for a file that is not of the form."""
    file = folder / EXAMPLES
    if not file.is_file():
        return []
    try:
        return [*_examples(folder, json.loads(file.read_text("utf-8")))]
    except (ValueError, TypeError, KeyError):
        raise InvalidRequest(f"{EXAMPLES} is no list of examples as the guide has them.") from None


def _examples(folder: Path, found: Any) -> Iterator[Example]:
    for one in found:
        yield Example(
            folder.name,
            one["about"],
            placed(one["parameters"], folder / "examples"),
            one["output"],
            tuple(one.get("artifacts", ())),
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
