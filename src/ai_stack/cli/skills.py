"""`skills`: list, show and run the skills of a stack; make, check and try one of your own."""

from pathlib import Path
from typing import Annotated

import typer

from ai_stack.cli import skill_making
from ai_stack.cli.client import Answer, Gateway, connect, quoted
from ai_stack.cli.options import AsJson, print_json, say, shortened
from ai_stack.cli.progress import Bars, bars, follow
from ai_stack.cli.skill_arguments import arguments_of

WIDTH = 76

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of the skill.")]
Place = Annotated[Path, typer.Argument(help="Folder of the skill.")]


@app.callback()
def skills() -> None:
    """Specialised abilities that run in the stack."""


@app.command("list")
def list_skills(
    query: Annotated[list[str] | None, typer.Argument(help="Only those that fit.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the skills, and what those that cannot run here lack."""
    with connect() as gateway:
        found = gateway.ask("GET", "/skills", params={"query": " ".join(query)} if query else {})
    if as_json:
        print_json(found)
        return
    for skill in found["items"]:
        say(_line(skill))
        if skill.get("missing"):
            say(f"    {skill['missing']}")
    say(_count(found["items"]))


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show a skill's arguments, what it may touch, its instructions and files."""
    with connect() as gateway:
        found = gateway.ask("GET", f"/skills/{quoted(name)}")
    if as_json:
        print_json(found)
        return
    say(f"{found['name']}\n{found.get('description', '')}")
    for argument, form in found.get("parameters", {}).get("properties", {}).items():
        say(f"  {argument:16} {shortened(str(form.get('description', '')), WIDTH)}")
    for what, value in found.get("permissions", {}).items():
        say(f"  may: {what} {value}")
    if found.get("missing"):
        say(f"  missing: {found['missing']}")
    say(f"\n{found.get('instructions', '')}")


@app.command()
def run(
    name: Name,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARGUMENT=VALUE]...",
            help="Arguments; VALUE as JSON where the skill wants more than a text, @PATH for a"
            " file or folder of yours, which is sent. May be repeated for a list.",
        ),
    ] = None,
    parameters: Annotated[
        str, typer.Option("--parameters", "-p", help="All arguments as one JSON object, or @FILE.")
    ] = "",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the files that it makes.")
    ] = Path(),
    background: Annotated[bool, typer.Option(help="Return at once, with the run's id.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a skill and fetch the files that it makes; exits 1 when it failed."""
    with connect() as gateway, bars(as_json) as shown:
        skill = gateway.ask("GET", f"/skills/{quoted(name)}")
        asked = arguments_of(gateway, skill, parameters, given or [])
        body = {"parameters": asked, "background": True}
        started = gateway.ask("POST", f"/skills/{quoted(name)}/execute", json=body)
        made = started if background else _ended(gateway, started, shown)
        files = [] if background else _fetched(gateway, made, output)
    _report(made, files, as_json)


def _ended(gateway: Gateway, started: Answer, shown: Bars) -> Answer:
    id = str(started["run_id"])
    follow(gateway, {"id": id, "kind": "skill"}, shown)
    return gateway.insist("GET", f"/skills/runs/{quoted(id)}")


def _fetched(gateway: Gateway, run: Answer, folder: Path) -> list[Path]:
    """The run's artifacts as files; one that is there already is left alone."""
    found = []
    for artifact in run["artifacts"]:
        path = _free(folder / Path(artifact["name"]).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        name = quoted(str(artifact["name"]))
        source = f"/runs/{quoted(run['run_id'])}/artifacts/{name}"
        with gateway.bytes(source) as body, path.open("xb") as sink:
            sink.writelines(body)
        found.append(path)
    return found


def _free(path: Path) -> Path:
    number, free = 2, path
    while free.exists():
        free, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    return free


def _report(run: Answer, files: list[Path], as_json: bool) -> None:
    if as_json:
        print_json({**run, "files": [str(file) for file in files]})
    elif run["status"] == "failed":
        say(f"It failed: {run.get('error')}")
    else:
        said = run.get("summary") or f"Run {run['run_id']} {_state(run)}."
        say(str(said))
        for note in run.get("notes", ()):
            say(f"note: {note}")
        for file in files:
            say(f"wrote {file}")
    raise typer.Exit(1 if run["status"] in ("failed", "cancelled") else 0)


def _state(run: Answer) -> str:
    status = str(run["status"])
    return {"running": "runs", "cancelled": "was cancelled"}.get(status, status)


def _line(skill: Answer) -> str:
    mark = "ready" if skill["ready"] else "reads" if not skill["acts"] else "lacks"
    mark = "broken" if not skill["description"] else mark
    return f"{mark:6} {skill['name']:22} {shortened(skill['description'], WIDTH)}"


def _count(found: list[Answer]) -> str:
    ready = sum(bool(skill["ready"]) for skill in found)
    return f"{len(found)} skills, {ready} ready to run here"


app.command("new")(skill_making.new)
app.command("validate")(skill_making.validate)
app.command("test")(skill_making.test)
