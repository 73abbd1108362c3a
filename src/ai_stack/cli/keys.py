"""`keys`, `audit`, `whoami`: who may do what, from the shell."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ai_stack.cli.client import Answer, connect, quoted
from ai_stack.cli.options import AsJson, Everything, Number, limit_of, print_json, say

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
keys = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys.")
app.add_typer(keys, name="keys")

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
Id = Annotated[str, typer.Argument(help="The key's id, the eight characters after `aidb_`.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do: read, write, infer, skills, agent, manage, operate. May be "
            "repeated; read, write, infer and skills by default."
        ),
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="Project that it is for. May be repeated.")
    ] = None,
    toolset: Annotated[
        list[str] | None, typer.Option(help="Toolset of MCP that it sees. May be repeated.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="A limit, such as requests_per_minute=60 or tokens_per_day=100000. May be "
            "repeated.",
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it ends: 12h, 30d, or 2030-01-31.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: it is shown this once."""
    body: Answer = {
        "name": name,
        "scopes": scope or ["read", "write", "infer", "skills"],
        "projects": project or [],
        "toolsets": toolset,
        "limits": dict(map(limit_of, limit or ())),
        "expires_at": None if expires is None else _moment(expires),
    }
    with connect() as gateway:
        made = gateway.ask("POST", "/keys", json=body)
    _show(made, as_json)


@keys.command("list")
def list_keys(limit: Number = 50, everything: Everything = False, as_json: AsJson = False) -> None:
    """List keys, the oldest first."""
    with connect() as gateway:
        found = list(gateway.items("/keys", None if everything else limit))
    if as_json:
        print_json({"items": found})
        return
    for key in found:
        used = key["used_at"] or "never used"
        say(f"{key['id']}  {key['state']:8} {key['name']:24} {','.join(key['scopes'])}  {used}")


@keys.command()
def rotate(id: Id, as_json: AsJson = False) -> None:
    """Make another key in this one's place, which is refused from now on."""
    with connect() as gateway:
        made = gateway.ask("POST", f"/keys/{quoted(id)}/rotate")
    _show(made, as_json)


@keys.command()
def revoke(id: Id, as_json: AsJson = False) -> None:
    """Refuse a key, and every key that it made, from now on everywhere."""
    with connect() as gateway:
        revoked = gateway.ask("DELETE", f"/keys/{quoted(id)}")
    if as_json:
        print_json(revoked)
    else:
        say(f"Key {id} ({revoked['name']}) is revoked.")


@keys.command("rotate-signing")
def rotate_signing(
    at_once: Annotated[
        bool, typer.Option(help="Refuse what the old key signed, as after a theft.")
    ] = False,
) -> None:
    """Sign tokens with a new key; what the old one signed holds until it expires."""
    with connect() as gateway:
        made = gateway.ask("POST", "/auth/signing-keys/rotate", json={"at_once": at_once})
    say(f"Tokens are signed with key {made['kid']} from now on.")


@app.command()
def audit(limit: Number = 50, everything: Everything = False, as_json: AsJson = False) -> None:
    """Show what changed who may do what, the latest first."""
    with connect() as gateway:
        found = list(gateway.items("/audit", None if everything else limit))
    if as_json:
        print_json({"items": found})
        return
    for entry in found:
        say(f"{entry['at']}  {entry['actor']:20} {entry['action']:16} {entry['subject']}")


@app.command()
def whoami(as_json: AsJson = False) -> None:
    """Show who the gateway takes this shell for, and what it may do."""
    with connect() as gateway:
        found = gateway.ask("GET", "/auth/me")
    if as_json:
        print_json(found)
        return
    say(f"{found['name']} in project {found['project_id']}: {', '.join(found['scopes'])}")
    say(f"Authentication is {found['authentication']}.")


def _show(made: Answer, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    say(made["key"])
    say(f"Key {made['id']} ({made['name']}): {', '.join(made['scopes'])}. It is not shown again.")


def _moment(text: str) -> str:
    """A moment from now, or a date, as RFC 3339."""
    span = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if span is not None:
        ahead = timedelta(seconds=int(span[1]) * UNITS[span[2]])
        return (datetime.now(UTC) + ahead).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time from now (12h, 30d) nor a date.", param_hint="--expires"
        ) from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).isoformat()
