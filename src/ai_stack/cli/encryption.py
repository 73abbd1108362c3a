"""`encryption`: what a project keeps in envelopes, and the rotation of keys."""

from typing import Annotated

import typer

from ai_stack.cli.client import Answer, connect
from ai_stack.cli.options import AsJson, print_json, say
from ai_stack.cli.progress import bars, follow
from ai_stack.cli.runs import report

app = typer.Typer(add_completion=False, rich_markup_mode=None)
encryption = typer.Typer(no_args_is_help=True, help="Seal what a project keeps, and rotate keys.")
app.add_typer(encryption, name="encryption")

Wait = Annotated[bool, typer.Option(help="Follow the run that rewrites what is there.")]
Project = Annotated[str | None, typer.Option(help="Project by its name or id.")]


@encryption.command()
def status(project: Project = None, as_json: AsJson = False) -> None:
    """Show what of a project is sealed, and what cannot be."""
    with connect(project) as gateway:
        found = gateway.ask("GET", "/encryption")
    if as_json:
        print_json(found)
    else:
        say(_told(found))


@encryption.command()
def enable(project: Project = None, wait: Wait = True, as_json: AsJson = False) -> None:
    """Seal the bodies of a project's documents, files and stored responses."""
    _change("enable", project, wait, as_json)


@encryption.command()
def disable(project: Project = None, wait: Wait = True, as_json: AsJson = False) -> None:
    """Keep them in the clear again."""
    _change("disable", project, wait, as_json)


@encryption.command()
def rotate(
    project: Project = None,
    master: Annotated[
        bool, typer.Option("--master", help="Another master key; no document is touched.")
    ] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Seal with a new data key, or wrap all data keys with a new master key."""
    if not master:
        _change("rotate", project, wait, as_json)
        return
    with connect() as gateway:
        found = gateway.ask("POST", "/encryption/master")
    if as_json:
        print_json(found)
    else:
        say(f"All data keys are under the master key {found['master']}.")
        if not found["in_place"]:
            say(f"Put {found['file']}.next in the place of {found['file']} yourself.")


def _change(change: str, project: str | None, wait: bool, as_json: bool) -> None:
    with connect(project) as gateway, bars(as_json) as shown:
        run = gateway.ask("POST", "/encryption", json={"change": change})
        run = follow(gateway, run, shown) if wait else run
    report(run, as_json)


def _told(found: Answer) -> str:
    state = f"sealed with the data key {found['key']}, under the master key {found['master']}"
    lines = [f"What this project keeps is {state if found['sealed'] else 'not sealed'}.", ""]
    for kind, rows in found["rows"].items():
        left = f", {rows['to_rewrite']} still to rewrite" if rows["to_rewrite"] else ""
        lines.append(f"  {kind:10} {rows['all']:>9}{left}")
    clear = [f"  {what}" for what in found["in_the_clear"]]
    return "\n".join([*lines, "", "In the clear in any case:", *clear])
