"""`reindex` and `fsck`: the vector index written anew, checked and repaired."""

from typing import Annotated

import typer

from ai_stack.cli.client import Answer, connect
from ai_stack.cli.options import AsJson, print_json
from ai_stack.cli.progress import bars, follow
from ai_stack.cli.runs import report
from ai_stack.services.fsck import KINDS

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Wait = Annotated[bool, typer.Option(help="Follow it to its end.")]


@app.command()
def reindex(
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Drop the index first; searches miss documents meanwhile."),
    ] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Write the index anew from PostgreSQL, without embedding anything again."""
    report(_run("/index/reindex", {"fresh": fresh}, wait, as_json), as_json)


@app.command()
def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Repair what is found.")] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Compare documents, chunks, vectors and index; exits 1 for a divergence left unrepaired."""
    run = _run("/index/fsck", {"repair": repair}, wait, as_json)
    output = run["output"]
    if output is None:
        report(run, as_json)
    elif as_json:
        print_json(run)
    else:
        print(_told(output))
    raise typer.Exit(0 if output["consistent"] or output["repaired"] else 1)


def _run(path: str, body: Answer, wait: bool, quiet: bool) -> Answer:
    with connect() as gateway, bars(quiet) as shown:
        run = gateway.ask("POST", path, json=body)
        return follow(gateway, run, shown) if wait else run


def _told(output: Answer) -> str:
    checked = output["checked"]
    lines = [f"{checked.get('documents', 0)} documents, {checked.get('vectors', 0)} vectors"]
    for kind, count in output["found"].items():
        if count:
            some = ", ".join(output["examples"].get(kind, [])[:3])
            lines.append(f"  {count} {KINDS[kind]}, as of {some}")
    verdict = "Everything agrees." if output["consistent"] else "`ai-stack fsck --repair` repairs."
    return "\n".join([*lines, "Repaired." if output["repaired"] and len(lines) > 1 else verdict])
