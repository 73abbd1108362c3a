"""`connect`: points the tools that people use at the gateway, and proves that they work."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from ai_stack.cli import optimizer
from ai_stack.cli.clients import (
    NAMES,
    Client,
    Edit,
    Places,
    Target,
    files,
    find_client,
    reachable,
    served,
)
from ai_stack.cli.clients.verification import Verdict, verify
from ai_stack.cli.options import AsJson, print_json, printable, say
from ai_stack.errors import ModelNotFound, StackError
from ai_stack.settings import Settings, load_settings, user_folder

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def connect(
    client: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the configuration and write nothing.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model; by default the gateway's first.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Gateway; by default this stack's.")
    ] = None,
    proving: Annotated[
        bool, typer.Option("--verify", help="Prove chat, stream, tools and embeddings.")
    ] = False,
    project_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Configure this project alone; for cursor, vscodium, aider.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the configuration of a client, keeping all else that its files say.

    A file's text from before is kept once, beside it. With --verify the client itself is run
    where it is installed; exits 1 when a proof fails.
    """
    settings, places = load_settings(), _places(project_dir)
    found = _client(client, project_dir)
    target = _target(reachable(url or settings.gateway_url), model)
    edits = found.edits(target, places)
    told: dict[str, Any] = {"client": client, "address": target.url, "model": target.model}
    if only_print:
        told["files"] = [{"path": str(e.path), "text": e.change("")} for e in edits]
    else:
        told["files"] = [_json(written) for written in _apply(settings, edits)]
        given = {"url": target.url if url else None, "project": places.project}
        _note(settings, client, target, edits, given)
    told["steps"] = _steps(found, target, places, edits)
    if not as_json:
        _show(told)
    # What a shell evaluates stands alone on the standard output, and so does JSON.
    output = sys.stderr if as_json or not edits else sys.stdout
    proofs = found.proofs(target, places) if not (only_print and edits) else {}
    verdicts = [_proved(v, output) for v in (verify(target, client, proofs) if proving else ())]
    if as_json:
        print_json({**told, "verified": [asdict(verdict) for verdict in verdicts]})
    raise typer.Exit(1 if any(verdict.failure for verdict in verdicts) else 0)


def _client(name: str, project: Path | None) -> Client:
    if name not in NAMES:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(NAMES)}.")
    found = find_client(name)
    if project is not None and not found.projects:
        raise typer.BadParameter(
            f"{name} has no configuration for one project.", param_hint="--project-dir"
        )
    return found


def _places(project: Path | None) -> Places:
    home = Path.home()
    config = user_folder("XDG_CONFIG_HOME", home / ".config")
    llm = user_folder("LLM_USER_PATH", config / "io.datasette.llm")
    return Places(home, config, llm, project.absolute() if project else None)


def _target(url: str, model: str | None) -> Target:
    try:
        found = served.ask(url)
    except StackError:
        if model is None:
            raise
        print(
            f"The gateway at {url} does not answer, so that the context length of {model} is "
            "not known; connect once more when it runs.",
            file=sys.stderr,
        )
        return Target(url, model)
    chosen = _chosen(found, model)
    return Target(url, chosen.id, chosen.context_length, found.embedding_model)


def _chosen(found: served.Served, model: str | None) -> served.Model:
    if not found.models:
        raise ModelNotFound(
            "The gateway serves no model yet: `ai-stack models pull NAME` brings one, or pass "
            "--model where it is to come later."
            if model is None
            else f"The gateway serves no model {model}; it serves none at all."
        )
    if model is None:
        return found.models[0]
    chosen = found.find(model)
    if chosen is None:
        names = ", ".join(m.id for m in found.models)
        raise ModelNotFound(f"The gateway serves no model {model}; it serves {names}.")
    return chosen


def _apply(settings: Settings, edits: Sequence[Edit]) -> list[files.Written]:
    """Write all files, or none when one of them cannot be understood."""
    ours = optimizer.files_of(optimizer.load(settings))
    planned = [(edit.path, before := files.read(edit.path), _after(edit, before)) for edit in edits]
    return [files.write(*plan, keep=str(plan[0]) not in ours) for plan in planned]


def _after(edit: Edit, before: str) -> str:
    try:
        return edit.change(before)
    except files.Malformed as error:
        raise files.Malformed(f"{edit.path}: {error.message}. Nothing was changed.") from None


def _note(
    settings: Settings, client: str, target: Target, edits: Sequence[Edit], given: Mapping[str, Any]
) -> None:
    """Keep in mind what was connected, and what was asked for by name."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    asked = {name: str(value) for name, value in given.items() if value is not None}
    paths = [str(edit.path) for edit in edits]
    row = {"model": target.model, **asked, "files": paths, "connected_at": now}
    try:
        optimizer.record(settings, reachable(settings.gateway_url), {client: row} if edits else {})
    except OSError as error:
        print(f"{optimizer.NAME} was not written: {error.strerror}.", file=sys.stderr)


def _steps(client: Client, target: Target, places: Places, edits: Sequence[Edit]) -> list[str]:
    steps = [*client.steps(target, places)]
    if any(edit.path.name == "mcp.json" for edit in edits) and not served.has_mcp(target.url):
        steps.append("This gateway has no tools at /mcp yet; the entry begins to work with them.")
    return steps


def _show(told: Mapping[str, Any]) -> None:
    for row in told["files"]:
        if "text" in row:
            say(f"# {row['path']}\n{row['text']}")
        else:
            kept = f" (as it was: {row['backup']})" if row["backup"] else ""
            say(f"{'wrote' if row['changed'] else 'unchanged'} {row['path']}{kept}")
    for step in told["steps"]:
        say(step)


def _proved(verdict: Verdict, output: TextIO) -> Verdict:
    """Tell one verdict as it comes."""
    word = "ok" if not verdict.failure else "failed"
    line = f"{verdict.capability:10} {word:6} {verdict.seconds:5.1f} s  through {verdict.through}"
    why = f": {verdict.failure}" if verdict.failure else ""
    print(printable(line + why), file=output, flush=True)
    return verdict


def _json(written: files.Written) -> dict[str, Any]:
    backup = str(written.backup) if written.backup else None
    return {"path": str(written.path), "changed": written.changed, "backup": backup}
