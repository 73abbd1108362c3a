"""Runs a skill's examples in a process of its own: `python trial.py FOLDER WORK REPORT`.

It is a program: the skill under test is loaded here and nowhere else. The report is JSON, a list of
`{"about", "passed", "seconds", "differences"}`.
"""

import asyncio
import importlib.util
import inspect
import json
import sys
import time
from pathlib import Path
from types import ModuleType

from ai_stack.skill import Context, Example, Skill, differences, read_examples


def main(folder: Path, work: Path, report: Path) -> None:
    """Run every example, and write down what came of it."""
    rows: list[dict[str, object]] = []
    kind = _loaded(folder)
    for number, example in enumerate(read_examples(folder)):
        begun = time.monotonic()
        wrong = asyncio.run(_run(kind, example, work / str(number)))
        seconds = round(time.monotonic() - begun, 3)
        rows.append({"about": example.about, "passed": not wrong, "seconds": seconds,
                     "differences": [line[:500] for line in wrong[:20]]})  # fmt: skip
        report.write_text(json.dumps(rows))
    report.write_text(json.dumps(rows))


def _loaded(folder: Path) -> type[Skill]:
    """The one Skill of a folder, as the stack loads it."""
    name = f"ai_stack_skills.{folder.name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(
        name, folder / "skill.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    kinds = [m for m in vars(module).values()
             if inspect.isclass(m) and issubclass(m, Skill) and m.__module__ == name]  # fmt: skip
    if len(kinds) != 1:
        sys.exit(f"skill.py must define one class that is a Skill; it defines {len(kinds)}.")
    return kinds[0]


async def _run(kind: type[Skill], example: Example, work: Path) -> list[str]:
    """Where a run is not what the example says."""
    out, scratch = work / "out", work / "scratch"
    out.mkdir(parents=True)
    scratch.mkdir()
    try:
        result = await kind(Context(out, scratch)).execute(**example.parameters)
        output = json.loads(json.dumps(dict(result.output)))
    except Exception as error:  # noqa: BLE001 (whatever the skill under test raises is its fault)
        return [f"{type(error).__name__}: {error}"]
    made = sorted(path.name for path in out.iterdir())
    wanted = sorted(example.artifacts)
    lost = [] if made == wanted else [f"artifacts are {made}, not {wanted}"]
    return [*differences(example.output, output), *lost]


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
