"""`projects`: who works apart from whom, from the shell."""

import time
from typing import Annotated, Literal

import typer

from ai_stack.cli.client import Answer, Gateway, Refused, connect, quoted
from ai_stack.cli.options import AsJson, Everything, Number, limit_of, print_json, say
from ai_stack.cli.progress import Bars, bars
from ai_stack.errors import AIStackError

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
projects = typer.Typer(no_args_is_help=True, help="Make, list, suspend and delete projects.")
members = typer.Typer(no_args_is_help=True, help="Say who works in a project.")
projects.add_typer(members, name="members")
app.add_typer(projects, name="projects")

LOOK_S = 0.5
ENDED = ("failed", "cancelled")
Role = Literal["owner", "editor", "reader"]
Name = Annotated[str, typer.Argument(help="The project's name, or id.")]
User = Annotated[str, typer.Argument(help="The user's name, or id.")]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=NUMBER",
        help="A limit, such as requests_per_minute=60 or tokens_per_day=100000. May be repeated.",
    ),
]


@projects.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is called, in 1 to 100 characters.")],
    limit: Limits = None,
    owner: Annotated[str | None, typer.Option(help="User who owns it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a project."""
    body = {"name": name, "limits": dict(map(limit_of, limit or ())), "owner": owner}
    _ask("POST", "/projects", body, "is made", as_json)


@projects.command("list")
def list_projects(
    limit: Number = 50, everything: Everything = False, as_json: AsJson = False
) -> None:
    """List the projects that are yours, the oldest first."""
    with connect() as gateway:
        found = list(gateway.items("/projects", None if everything else limit))
    if as_json:
        print_json({"items": found})
        return
    for project in found:
        say(f"{project['id']}  {project['state']:9} {project.get('role', '-'):7} {project['name']}")


@projects.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show a project, its limits, and how far its deletion is."""
    with connect() as gateway:
        project = gateway.ask("GET", _path(name))
    if as_json:
        print_json(project)
        return
    say(f"{project['name']} ({project['id']}) is {project['state']}.")
    for rule, most in project["limits"].items():
        say(f"  {rule} {most}")
    if deletion := project.get("deletion"):
        say(f"  The run {deletion['id']} that deletes it is {deletion['status']}.")


@projects.command()
def rename(
    name: Name,
    to: Annotated[str, typer.Argument(help="What it is called from now on.")],
    as_json: AsJson = False,
) -> None:
    """Give a project another name."""
    _ask("PATCH", _path(name), {"name": to}, "is its name now", as_json)


@projects.command()
def suspend(name: Name, as_json: AsJson = False) -> None:
    """Let nobody work in a project until it is resumed."""
    _ask("PUT", f"{_path(name)}/state", {"state": "suspended"}, "is suspended", as_json)


@projects.command()
def resume(name: Name, as_json: AsJson = False) -> None:
    """Open a project again that is suspended."""
    _ask("PUT", f"{_path(name)}/state", {"state": "active"}, "is open", as_json)


@projects.command()
def limits(name: Name, limit: Limits = None, as_json: AsJson = False) -> None:
    """Give a project these limits in place of all that it has; without any, none."""
    found = dict(map(limit_of, limit or ()))
    told = "has these limits now" if found else "has no limits now"
    _ask("PATCH", _path(name), {"limits": found}, told, as_json)


@projects.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    wait: Annotated[bool, typer.Option(help="Follow it to its end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Delete a project with all documents, vectors, sessions, runs, logs and keys, for good."""
    with connect() as gateway:
        project = gateway.ask("GET", _path(name))
        if not yes:
            typer.confirm(f"Delete {project['name']} and all that is in it, for good?", abort=True)
        run = gateway.ask("DELETE", _path(project["id"]))
        if wait:
            with bars(as_json) as shown:
                _follow(gateway, project["id"], shown)
    if as_json:
        print_json({"id": project["id"], "run": run["id"]})
    else:
        say(f"Project {project['name']} {'is deleted' if wait else 'is being deleted'}.")


@members.command()
def add(
    name: Name,
    user: User,
    role: Annotated[Role, typer.Option(help="What the user may do.")] = "editor",
    as_json: AsJson = False,
) -> None:
    """Have a user work in a project, or give a member another role."""
    with connect() as gateway:
        made = gateway.ask("POST", f"{_path(name)}/members", json={"user": user, "role": role})
    if as_json:
        print_json(made)
    else:
        say(f"{made['user']} is {made['role']} of {name}.")


@members.command("list")
def list_members(
    name: Name, limit: Number = 50, everything: Everything = False, as_json: AsJson = False
) -> None:
    """List the users who work in a project."""
    with connect() as gateway:
        found = list(gateway.items(f"{_path(name)}/members", None if everything else limit))
    if as_json:
        print_json({"items": found})
        return
    for member in found:
        say(f"{member['user_id']}  {member['role']:7} {member['user']}")


@members.command()
def remove(name: Name, user: User, as_json: AsJson = False) -> None:
    """Take a user out of a project."""
    with connect() as gateway:
        gateway.ask("DELETE", f"{_path(name)}/members/{quoted(user)}")
    if as_json:
        print_json({"project": name, "user": user})
    else:
        say(f"{user} is no member of {name} any more.")


def _ask(method: str, path: str, body: Answer, told: str, as_json: bool) -> None:
    with connect() as gateway:
        project = gateway.ask(method, path, json=body)
    if as_json:
        print_json(project)
    else:
        say(f"Project {project['name']} {told}.")


def _follow(gateway: Gateway, id: str, shown: Bars) -> None:
    """Return when the project is gone; a deletion that was given up raises its reason."""
    while (project := _left(gateway, id)) is not None:
        run = project.get("deletion") or {}
        if run.get("status") in ENDED:
            raise AIStackError(run.get("error") or "The deletion was cancelled; begin it again.")
        progress = run.get("progress") or {}
        shown.show("delete", progress.get("done", 0), None, str(progress.get("message", "")))
        time.sleep(LOOK_S)


def _left(gateway: Gateway, id: str) -> Answer | None:
    try:
        return gateway.insist("GET", _path(id))
    except Refused as error:
        if error.answered == 404:
            return None
        raise


def _path(name: str) -> str:
    return f"/projects/{quoted(name)}"
