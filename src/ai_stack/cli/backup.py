"""`backup`: the whole stack in one file, checked, pruned and restored; an operator's verb."""

import asyncio
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ai_stack.cli.options import AsJson, print_json, say
from ai_stack.cli.progress import Bars, bars
from ai_stack.errors import InvalidRequest
from ai_stack.settings import Settings, load_settings

T = TypeVar("T")
MIB = 1 << 20
REFUSED = "A restore replaces what the stack has now: say --yes."

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A backup, or a folder: the newest in it.")
]
IdentityFile = Annotated[
    Path | None,
    typer.Option("--identity", "-i", help="File of the identity that opens encrypted ones."),
]


@app.command()
def create(as_json: AsJson = False) -> None:
    """Back up documents, keys, sessions, settings, skills and imports, while the stack runs."""
    from ai_stack.services.backup.creating import create as made  # noqa: PLC0415

    with bars(as_json) as shown:
        found = _done(made(load_settings(), _told(shown)))
    if as_json:
        shares = {name: asdict(share) for name, share in found.manifest.shares.items()}
        manifest = {**found.manifest.json(), "shares": shares}
        size, took = found.size_bytes, found.took_s
        print_json({"bundle": str(found.path), "size_bytes": size, "took_s": took, **manifest})
        return
    say(f"{found.path}: {_size(found.size_bytes)} in {found.took_s:.1f} s")
    for warning in found.manifest.warnings:
        say(f"  {warning}")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the backups, the newest first."""
    from ai_stack.services.backup.shelf import shelved  # noqa: PLC0415

    found = shelved(load_settings().backups)
    if as_json:
        items = [{**asdict(each), "path": str(each.path)} for each in found]
        print_json({"items": items, "next_cursor": None})
        return
    for each in found:
        made = datetime.fromtimestamp(each.made_at).astimezone()
        sort = "encrypted" if each.header and each.header.encrypted else "plain"
        about = each.fault or f"{sort}, AI Stack {each.header.product if each.header else ''}"
        say(f"{made:%Y-%m-%d %H:%M:%S}  {_size(each.size_bytes):>10}  {each.path}  {about}")
    if not found:
        say("There are no backups yet; `ai-stack backup create` makes one.")


@app.command()
def verify(
    bundle: Bundle,
    restore: Annotated[
        bool, typer.Option("--restore", help="Restore it into servers of its own, and compare.")
    ] = False,
    identity: IdentityFile = None,
    as_json: AsJson = False,
) -> None:
    """See that a backup is whole; exits 1 when it is not."""
    from ai_stack.services.backup.checking import find  # noqa: PLC0415
    from ai_stack.services.backup.verifying import verify as verified  # noqa: PLC0415

    settings = load_settings()
    keys = _identities(settings, identity)
    with bars(as_json) as shown:
        found = _done(verified(settings, find(bundle), keys, restored=restore, told=_told(shown)))
    if as_json:
        print_json({**asdict(found), "bundle": str(found.bundle)})
        return
    say(f"{found.bundle} is whole ({found.took_s:.1f} s).")
    if found.depth == "bytes":
        say("  It is encrypted, and without the identity only its bytes were looked at.")
    if found.depth == "restored":
        say(f"  Restored: {found.rows} rows are there, {found.queries} queries answer alike.")


@app.command()
def restore(
    bundle: Bundle,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a server's database that has data.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep what is replaced.")] = False,
    identity: IdentityFile = None,
    as_json: AsJson = False,
) -> None:
    """Put the stack into the state of a backup; a bad backup is refused before anything is touched.

    The data of now stay in force until those of the backup have been built and checked, and are
    removed when the stack has answered with the new ones.
    """
    from ai_stack.services.backup.checking import find  # noqa: PLC0415
    from ai_stack.services.backup.restoring import Wish  # noqa: PLC0415
    from ai_stack.services.backup.restoring import restore as restored  # noqa: PLC0415

    settings, path = load_settings(), find(bundle)
    if not yes:
        _confirm(path)
    keys = _identities(settings, identity)
    with bars(as_json) as shown:
        wish = Wish(replace, keep)
        found = _done(restored(settings, path, keys, wish, _told(shown)))
    if as_json:
        print_json({**asdict(found), "bundle": str(found.bundle)})
        return
    say(f"{found.bundle} is restored: {found.documents} documents, in {found.took_s:.1f} s.")
    for note in found.notes:
        say(f"  {note}")


def _confirm(bundle: Path) -> None:
    """Ask the person at the terminal; InvalidRequest where there is none."""
    if not sys.stdin.isatty():
        raise InvalidRequest(REFUSED)
    typer.confirm(f"Replace what the stack has now by {bundle.name}?", abort=True)


@app.command()
def prune(as_json: AsJson = False) -> None:
    """Remove backups that are the newest of no day and no week that are kept."""
    from ai_stack.services.backup import shelf  # noqa: PLC0415

    settings = load_settings()
    days, weeks = settings.backup_keep_days, settings.backup_keep_weeks
    removed = shelf.prune(settings.backups, days, weeks)
    if as_json:
        print_json({"removed": [str(path) for path in removed]})
        return
    for path in removed:
        say(f"{path} is removed.")
    say(f"{len(shelf.shelved(settings.backups))} backups are kept.")


def _done(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _identities(settings: Settings, given: Path | None) -> Sequence[Any]:
    from ai_stack.services.backup.ages import read_identities  # noqa: PLC0415

    return read_identities(given or settings.backup_identity)


def _told(shown: Bars) -> Any:
    """Draw what is done, not more often than one can see."""
    told_at: dict[str, float] = {}

    def tell(name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - told_at.get(name, 0.0) > 0.1 or done == total:
            told_at[name] = now
            shown.show(name, done, total)

    return tell


def _size(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f} MiB"
