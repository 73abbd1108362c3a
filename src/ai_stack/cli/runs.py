"""`runs`: long work, listed, followed, cancelled and tried again."""

from typing import Annotated

import typer

from ai_stack.cli.client import Answer, connect, quoted
from ai_stack.cli.options import AsJson, Everything, Number, print_json, say
from ai_stack.cli.progress import bars, follow

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

OF_FILES = ("import", "watch")

Id = Annotated[str, typer.Argument(help="The run's id.")]


@app.command("list")
def list_runs(
    limit: Number = 20,
    everything: Everything = False,
    kind: Annotated[str | None, typer.Option(help="Only runs of this kind: import, …")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the latest first."""
    with connect() as gateway:
        found = list(gateway.items("/runs", None if everything else limit, kind=kind))
    if as_json:
        print_json({"items": found})
        return
    for run in found:
        say(_line(run))


@app.command()
def show(id: Id, as_json: AsJson = False) -> None:
    """Show one run, and what became of each of its files."""
    with connect() as gateway:
        run = gateway.ask("GET", _path(id))
        files = gateway.items(f"{_path(id)}/files", None) if run["kind"] in OF_FILES else ()
        if as_json:
            print_json({**run, "files": list(files)})
            return
        say(described(run))
        for file in files:
            why = f"  {file['error']}" if file.get("error") else ""
            say(f"  {file['state']:10} {file['path']}{why}")


@app.command("follow")
def follow_run(id: Id, as_json: AsJson = False) -> None:
    """Follow a run to its end; exits 1 unless it succeeds."""
    with connect() as gateway, bars(as_json) as shown:
        run = follow(gateway, gateway.ask("GET", _path(id)), shown)
    report(run, as_json)


@app.command()
def cancel(id: Id, as_json: AsJson = False) -> None:
    """Cancel a run; what it has done so far stays."""
    with connect() as gateway:
        gateway.ask("DELETE", _path(id))
        run = gateway.ask("GET", _path(id))
    if as_json:
        print_json(run)
    else:
        word = "is cancelled" if run["status"] == "cancelled" else "will stop shortly"
        say(f"Run {id} {word}.")


@app.command()
def retry(
    id: Id,
    wait: Annotated[bool, typer.Option(help="Follow it to its end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Start a run that failed anew, with what it was given then."""
    with connect() as gateway, bars(as_json) as shown:
        run = gateway.ask("POST", f"{_path(id)}/retry")
        run = follow(gateway, run, shown) if wait else run
    report(run, as_json)


def report(run: Answer, as_json: bool) -> None:
    """Print how a run stands; exits 1 when it failed or was cancelled."""
    if as_json:
        print_json(run)
    else:
        say(described(run))
    raise typer.Exit(1 if run["status"] in ("failed", "cancelled") else 0)


def described(run: Answer) -> str:
    """A run in a few lines: its state, its reason, its numbers."""
    lines = [_line(run)]
    for name, value in (run.get("output") or {}).items():
        lines.append(f"  {name.replace('_', ' ')}: {value}")
    return "\n".join(lines)


def _line(run: Answer) -> str:
    why = f"  {run['error']}" if run.get("error") else ""
    return f"{run['id']}  {run['kind']:10} {run['status']:10} {run['created_at'][:19]}{why}"


def _path(id: str) -> str:
    return f"/runs/{quoted(id)}"
