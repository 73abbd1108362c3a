"""`users`: who has an account, for those who operate the stack."""

import sys
from typing import Annotated

import typer

from ai_stack.cli.client import Answer, connect, quoted
from ai_stack.cli.options import AsJson, Everything, Number, print_json, say

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
users = typer.Typer(no_args_is_help=True, help="Make, list, suspend and remove users.")
app.add_typer(users, name="users")

Name = Annotated[str, typer.Argument(help="The user's name, or id.")]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
MadeUp = Annotated[
    bool, typer.Option("--generate", help="Have a password made up for the first login.")
]


@users.command()
def create(
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and . _ @ + -, such as alice.")],
    admin: Annotated[bool, typer.Option(help="May do everything, in every project.")] = False,
    issuer: Annotated[
        str | None, typer.Option(help="OpenID Connect issuer where the user signs on.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Who the user is at the issuer.")] = None,
    password_stdin: FromInput = False,
    as_json: AsJson = False,
) -> None:
    """Make a user, with a password that is made up and printed once.

    The user has to change it at the first login. A new user is a member of no project.
    """
    body: Answer = {"name": name, "is_admin": admin, "issuer": issuer, "subject": subject}
    if password_stdin:
        body["password"] = _from_input()
    with connect() as gateway:
        made = gateway.ask("POST", "/users", json=body)
    _show(made, f"User {made['name']} is made.", as_json)


@users.command("list")
def list_users(limit: Number = 50, everything: Everything = False, as_json: AsJson = False) -> None:
    """List users, the oldest first."""
    with connect() as gateway:
        found = list(gateway.items("/users", None if everything else limit))
    if as_json:
        print_json({"items": found})
        return
    for user in found:
        means = [*(["password"] if user["has_password"] else []), *user["issuers"]]
        role = "admin" if user["is_admin"] else "-"
        say(f"{user['name']:24} {user['state']:9} {role:5} {', '.join(means)}")


@users.command()
def show(name: Name) -> None:
    """Print one user as JSON."""
    with connect() as gateway:
        print_json(gateway.ask("GET", f"/users/{quoted(name)}"))


@users.command()
def suspend(name: Name) -> None:
    """Refuse a user everywhere from now on: logins, keys and tokens."""
    _change(name, {"state": "suspended"}, "is suspended")


@users.command()
def resume(name: Name) -> None:
    """Let a suspended user in again."""
    _change(name, {"state": "active"}, "may log in again")


@users.command()
def promote(name: Name) -> None:
    """Let a user operate the stack, and do everything in every project."""
    _change(name, {"is_admin": True}, "operates the stack")


@users.command()
def demote(name: Name) -> None:
    """Leave a user no more than the roles in projects."""
    _change(name, {"is_admin": False}, "does not operate the stack")


@users.command()
def delete(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Remove a user with all keys, logins and memberships."""
    if not yes:
        typer.confirm(f"Remove {name} with all keys?", abort=True)
    with connect() as gateway:
        gateway.ask("DELETE", f"/users/{quoted(name)}")
    say(f"User {name} is removed.")


@users.command()
def password(
    name: Name, generate: MadeUp = False, password_stdin: FromInput = False, as_json: AsJson = False
) -> None:
    """Give a user another password; every login of the user ends."""
    given = None
    if not generate:
        given = _from_input() if password_stdin else new_password()
    with connect() as gateway:
        path, body = f"/users/{quoted(name)}/password", {"password": given}
        changed = gateway.ask("PUT", path, json=body)
    _show(changed, f"User {changed['name']} has another password.", as_json)


def new_password() -> str:
    """A password that is typed twice and not shown."""
    return str(typer.prompt("New password", hide_input=True, confirmation_prompt=True))


def _from_input() -> str:
    return sys.stdin.readline().rstrip("\n")


def _change(name: str, change: Answer, said: str) -> None:
    with connect() as gateway:
        changed = gateway.ask("PATCH", f"/users/{quoted(name)}", json=change)
    say(f"User {changed['name']} {said}.")


def _show(user: Answer, said: str, as_json: bool) -> None:
    if as_json:
        print_json(user)
        return
    if "password" in user:
        say(user["password"])
        said += " The password is not shown again, and has to be changed at the first login."
    say(said)
