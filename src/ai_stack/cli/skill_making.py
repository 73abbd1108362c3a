"""Make, check and try a skill of one's own, without a stack: its code runs behind the wall."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_stack.cli.options import AsJson, print_json, say
from ai_stack.errors import AIStackError, AlreadyExists
from ai_stack.sandbox import Confinement, find_sandbox
from ai_stack.services.skills.apart import Apart
from ai_stack.settings import load_settings
from ai_stack.skill.discovery import CODE, OURS
from ai_stack.skill.examples import Example, differences, read_examples
from ai_stack.skill.manifest import FILE, Manifest, parse_manifest, read_manifest
from ai_stack.skill.wire import Order

TEMPLATE = "template-skill"
DERIVED_S = 30.0

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
        manifest = read_manifest(folder.resolve())
        if (folder / CODE).is_file():
            with tempfile.TemporaryDirectory() as scratch:
                _apart(folder.resolve(), manifest, None, Path(scratch))
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
    manifest = read_manifest(place)
    found = [(one, [*_faults(place, manifest, one)]) for one in read_examples(place)]
    if as_json:
        print_json([{"about": one.about, "faults": faults} for one, faults in found])
    for one, faults in found if not as_json else ():
        say(f"{'fails' if faults else 'works'}  {one.about}")
        for fault in faults:
            say(f"       {fault}")
    if not found and not as_json:
        say("It has no examples.json, so nothing was tried.")
    raise typer.Exit(1 if any(faults for _, faults in found) else 0)


def _faults(folder: Path, manifest: Manifest, example: Example) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            answer = _apart(folder, manifest, example.parameters, Path(scratch))
        except AIStackError as error:
            yield error.message
            return
        yield from differences(example.output, json.loads(json.dumps(answer["output"])))
        made = sorted(path.name for path in (Path(scratch) / "out").iterdir())
        if made != sorted(example.artifacts):
            yield f"it made the files {made}, not {sorted(example.artifacts)}"


def _apart(
    folder: Path, manifest: Manifest, arguments: Mapping[str, Any] | None, place: Path
) -> dict[str, Any]:
    """Run the skill as a stack would, or have it tell its schema."""
    out, scratch = place / "out", place / "scratch"
    for made in (out, scratch):
        made.mkdir(exist_ok=True)
    asked = manifest.permissions
    bounds = Confinement(
        reads=[folder],
        writes=[out, scratch],
        network=asked.network == "host" and arguments is not None,
        programs=bool(asked.programs),
        memory_bytes=asked.memory_bytes,
        cpu_s=asked.time_s,
    )
    order = Order(str(folder), str(out), str(scratch), bounds, arguments)
    time_s = DERIVED_S if arguments is None else asked.time_s
    return asyncio.run(Apart(find_sandbox()).run(order, time_s))


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
