"""`connect`: points the tools that people use at the gateway, and proves that they work."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from ai_stack.cli import optimizer
from ai_stack.cli.clients import (
    KEY,
    NAMES,
    Client,
    Edit,
    Places,
    Target,
    files,
    find_client,
    keys,
    reachable,
    served,
)
from ai_stack.cli.clients.verification import Verdict, verify
from ai_stack.cli.options import AsJson, print_json, printable, say
from ai_stack.errors import ModelNotFound, StackError, Unauthenticated
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
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Key that the client is to show; by default AI_STACK_KEY, or one that is made "
            "for it where the gateway asks for keys.",
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
    target = _target(
        reachable(url or settings.gateway_url), model, None if key is None else keys.check(key)
    )
    if not only_print:
        _plan(found.edits(target, places))  # a file that is refused is so before a key is made
    target = _keyed(settings, target, client, key, may_make=not only_print)
    wanted = Wanted(client, found, target, places, found.edits(target, places))
    told = _printed(wanted) if only_print else _written(settings, wanted, url)
    if not as_json:
        _show(told)
    # What a shell evaluates stands alone on the standard output, and so does JSON.
    output = sys.stderr if as_json or not wanted.edits else sys.stdout
    verdicts = _verdicts(wanted, output, with_client=not only_print) if proving else []
    if as_json:
        print_json({**told, "verified": [asdict(verdict) for verdict in verdicts]})
    raise typer.Exit(1 if any(verdict.failure for verdict in verdicts) else 0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a client is to be connected."""

    name: str
    client: Client
    target: Target
    places: Places
    edits: Sequence[Edit]

    def told(self, done: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What a person is told of it, with what came of its files."""
        named = {"client": self.name, "address": self.target.url, "model": self.target.model}
        steps = _steps(self.client, self.target, self.places, self.edits)
        return {**named, "files": [*done], "steps": steps}


def _printed(wanted: Wanted) -> dict[str, Any]:
    return wanted.told([{"path": str(e.path), "text": e.change("")} for e in wanted.edits])


def _written(settings: Settings, wanted: Wanted, url: str | None) -> dict[str, Any]:
    done = [_json(written) for written in _apply(settings, wanted.edits)]
    given = {"url": wanted.target.url if url else None, "project": wanted.places.project}
    _note(settings, wanted.name, wanted.target, wanted.edits, given)
    return wanted.told(done)


def _verdicts(wanted: Wanted, output: TextIO, *, with_client: bool) -> list[Verdict]:
    """Prove what works, also through the client where its files were written or it has none."""
    proves = with_client or not wanted.edits
    proofs = wanted.client.proofs(wanted.target, wanted.places) if proves else {}
    return [_proved(each, output) for each in verify(wanted.target, wanted.name, proofs)]


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


def _target(url: str, model: str | None, key: str | None) -> Target:
    try:
        found = served.ask(url, key)
    except Unauthenticated:
        if key is None:
            raise
        raise Unauthenticated(f"The gateway at {url} does not know this key.") from None
    except StackError:
        if model is None:
            raise
        print(
            f"The gateway at {url} does not answer, so that the context length of {model} is "
            "not known; connect once more when it runs.",
            file=sys.stderr,
        )
        return Target(url, model, key=key or KEY)
    chosen = _chosen(found, model)
    return Target(url, chosen.id, chosen.context_length, found.embedding_model, key or KEY)


def _keyed(
    settings: Settings, target: Target, client: str, given: str | None, *, may_make: bool
) -> Target:
    """With the key that the client is to show, of which a person is told."""
    asked = keys.Wanted(client, target.url, find_client(client).scopes)
    try:
        issued = keys.issue(settings, asked, given, may_make=may_make)
    except served.Silent:
        return replace(target, key=given)
    if issued.told:
        print(printable(issued.told), file=sys.stderr)
    return replace(target, key=issued.key)


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
    return [
        files.write(edit.path, before, after, keep=str(edit.path) not in ours, secret=edit.secret)
        for edit, before, after in _plan(edits)
    ]


def _plan(edits: Sequence[Edit]) -> list[tuple[Edit, str, str]]:
    return [(edit, before := files.read(edit.path), _after(edit, before)) for edit in edits]


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
    if places.project and any(edit.secret for edit in edits):
        steps.append("There is a key in it now: keep it out of what you commit.")
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
