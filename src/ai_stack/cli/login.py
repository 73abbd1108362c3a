"""`login`, `logout`: who this shell is at a gateway, from now on."""

import sys
from typing import Annotated

import typer

from ai_stack.cli import device
from ai_stack.cli.client import Gateway, Refused
from ai_stack.cli.credentials import Credentials, save, saved
from ai_stack.cli.options import say
from ai_stack.cli.users import new_password
from ai_stack.settings import Settings, load_settings
from ai_stack.tls import trust

app = typer.Typer(add_completion=False, rich_markup_mode=None)

CHANGE_FIRST = 403  # the password is right, and good for choosing another one alone


@app.command()
def login(
    name: Annotated[str | None, typer.Option(help="The user's name; else it is asked for.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    browser: Annotated[
        bool,
        typer.Option("--browser", help="Sign in in a browser, which may be on another machine."),
    ] = False,
    issuer: Annotated[
        str | None, typer.Option(help="Sign in in a browser at the issuer of this name.")
    ] = None,
) -> None:
    """Log in at the gateway, for every later command of this shell's user.

    By name and password, or with --browser or --issuer by a person who approves it in a browser.

    Only the login is kept, in a file that nobody else may read. AI_STACK_KEY goes before it.
    """
    if (browser or issuer) and (name or password_stdin):
        raise typer.BadParameter("a browser asks for the name and the password itself")
    settings = load_settings()
    with _stranger(settings) as gateway:
        if browser or issuer:
            token = device.sign_in(gateway, issuer)
        else:
            name = name or str(typer.prompt("Name"))
            password = sys.stdin.readline().rstrip("\n") if password_stdin else _asked("Password")
            token = _logged_in(gateway, name, password, may_ask=not password_stdin)
    save(settings.config_dir, settings.gateway_url, token)
    say(f"Logged in at {settings.gateway_url}{f' as {name}' if name else ''}.")


@app.command()
def logout() -> None:
    """End this shell's login at the gateway, and forget it."""
    settings = load_settings()
    token = saved(settings.config_dir).get(settings.gateway_url)
    if token is None:
        say(f"Nobody is logged in at {settings.gateway_url}.")
        return
    with _stranger(settings, token) as gateway:
        gateway.ask("POST", "/auth/logout")
    save(settings.config_dir, settings.gateway_url, None)
    say(f"Logged out at {settings.gateway_url}.")


def _logged_in(gateway: Gateway, name: str, password: str, *, may_ask: bool) -> str:
    """A login's token; whose password is a first one chooses another."""
    body = {"name": name, "password": password, "kind": "shell"}
    try:
        return str(gateway.ask("POST", "/auth/login", json=body)["token"])
    except Refused as error:
        if error.answered != CHANGE_FIRST or not may_ask:
            raise
    say("This password has to be changed first.")
    new = new_password()
    change = {"name": name, "password": password, "new_password": new}
    gateway.ask("POST", "/auth/password", json=change)
    return str(gateway.ask("POST", "/auth/login", json={**body, "password": new})["token"])


def _asked(what: str) -> str:
    return str(typer.prompt(what, hide_input=True))


def _stranger(settings: Settings, token: str | None = None) -> Gateway:
    """A gateway that is shown this token and nothing else."""
    return Gateway(settings.gateway_url, auth=Credentials(token), trust=trust(settings))
