"""Make, check and try a skill of one's own, without a stack: its code runs behind the wall."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from ai_stack.cli.options import AsJson, print_json, say
from ai_stack.errors import AIStackError, AlreadyExists
from ai_stack.sandbox import Sandbox, find_sandbox
from ai_stack.settings import load_settings
from ai_stack.skill.discovery import CODE, OURS
from ai_stack.skill.examples import Example, differences, read_examples
from ai_stack.skill.manifest import FILE, Manifest, parse_manifest, read_manifest

TEMPLATE = "template-skill"

Place = Annotated[Path, typer.Argument(help="Folder of the skill.")]


def new(
    name: Annotated[str, typer.Argument(help="Lowercase letters and digits, with hyphens.")],
    description: Annotated[
        str, typer.Option("--description", "-d", help="What it does, and when to use it.")
    ] = "Says what it does and when to use it.",
    folder: Annotated[
        Path | None, typer.Option(help="Where to make it; by default among your skills.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a skill of your own: a folder that runs, to be changed."""
    top = folder or load_settings().folders_of_skills[0]
    made = top / name
    if made.exists():
        raise AlreadyExists(f"{made} is there already.")
    text = _head(name, description)
    parse_manifest(text, name)
    made.mkdir(parents=True)
    for file in ("skill.py", "examples.json"):
        shutil.copyfile(OURS / TEMPLATE / file, made / file)
    (made / FILE).write_text(text)
    if as_json:
        print_json({"folder": str(made)})
    else:
        say(f"{made} is a skill. Change it, then: ai-stack skills test {made}")


def validate(folder: Place, as_json: AsJson = False) -> None:
    """Check a skill's folder against the standard, and that its code loads; exits 1 if not."""
    fault = ""
    try:
        read_manifest(folder.resolve())
        if (folder / CODE).is_file():
            _load(folder.resolve())
        read_examples(folder.resolve())
    except AIStackError as error:
        fault = error.message
    if as_json:
        print_json({"valid": not fault, "fault": fault or None})
    else:
        say(fault or f"{folder} is a valid skill.")
    raise typer.Exit(1 if fault else 0)


def test(folder: Place, as_json: AsJson = False) -> None:
    """Run a skill's examples without a stack, and compare what comes out; exits 1 if it differs."""
    place = folder.resolve()
    manifest, wall = read_manifest(place), find_sandbox()
    examples = read_examples(place)
    found = [(one, asyncio.run(_faults(wall, place, manifest, one))) for one in examples]
    if as_json:
        print_json([{"about": one.about, "faults": faults} for one, faults in found])
    for one, faults in found if not as_json else ():
        say(f"{'fails' if faults else 'works'}  {one.about}")
        for fault in faults:
            say(f"       {fault}")
    if not found and not as_json:
        say("It has no examples.json, so nothing was tried.")
    raise typer.Exit(1 if any(faults for _, faults in found) else 0)


def _load(folder: Path) -> None:
    """Have the code of a skill tell its schema, as a stack does to list it."""
    from ai_stack.services.skills.apart import Apart  # noqa: PLC0415 (it brings a stack's parts)
    from ai_stack.services.skills.schemas import derived  # noqa: PLC0415 (it brings a stack's parts)

    asyncio.run(derived(Apart(find_sandbox()), folder))


async def _faults(wall: Sandbox, folder: Path, manifest: Manifest, example: Example) -> list[str]:
    """Run the skill as a stack would, and tell where its answer is not the example's."""
    from ai_stack.services.skills.apart import Apart  # noqa: PLC0415 (it brings a stack's parts)
    from ai_stack.services.skills.execution import order_of, run_folders  # noqa: PLC0415 (it brings a stack's parts)

    asked = manifest.permissions
    async with run_folders() as place:
        order = order_of(folder, asked, place, [], example.parameters)
        try:
            answer = await Apart(wall).run(order, asked.time_s)
        except AIStackError as error:
            return [error.message]
        made = sorted(path.name for path in place.folder.iterdir())
    faults = differences(example.output, answer["output"])
    if made != sorted(example.artifacts):
        faults.append(f"it made the files {made}, not {sorted(example.artifacts)}")
    return faults


def _head(name: str, description: str) -> str:
    told = json.dumps(description, ensure_ascii=False)  # a JSON text is one in YAML
    return f"""---
name: {name}
description: {told}
license: MIT
metadata:
  ai-stack-memory: 256 MiB
  ai-stack-time: 30 s
---

# {name}

What this skill does, step by step, for a model or a person that is to use it.
"""
