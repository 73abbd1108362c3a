"""`doctor`: finds what is wrong with the stack, its machine and its clients, and how to mend it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from ai_stack.cli import diagnosis
from ai_stack.cli.diagnosis import (
    Check,
    Finding,
    connected,
    folders,
    machine,
    models,
    network,
    parts,
    servers,
)
from ai_stack.cli.options import AsJson, print_json, say
from ai_stack.errors import AIStackError

CHECKS: tuple[Check, ...] = (
    folders.settings,
    folders.secrets,
    machine.python,
    machine.disk,
    machine.memory,
    machine.clock,
    folders.rights,
    folders.layout,
    folders.leftovers,
    parts.ports,
    parts.supervisor,
    parts.parts,
    parts.gateway,
    parts.credentials,
    parts.embedding,
    servers.postgres,
    servers.redis,
    servers.redis_kept,
    servers.engines,
    models.served,
    models.unfinished,
    models.fit,
    connected.noted,
    connected.clients,
    network.hub,
)

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def doctor(
    online: Annotated[bool, typer.Option("--online", help="Ask the hub of models too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong, why it matters and what mends it; exits 1 when something is.

    It changes nothing, and works when the stack is down or its settings are broken.
    """
    stack = diagnosis.examine(online)
    found = list(dict.fromkeys(finding for check in CHECKS for finding in _run(check, stack)))
    if as_json:
        checks = [check.__name__ for check in CHECKS]
        print_json({"checks": checks, "findings": [asdict(finding) for finding in found]})
    else:
        say(_shown(found))
    raise typer.Exit(1 if found else 0)


def _run(check: Check, stack: diagnosis.Stack) -> Iterator[Finding]:
    """One check; what keeps it from looking is a finding too."""
    try:
        yield from check(stack)
    except (AIStackError, OSError) as error:
        what = f"{check.__name__} could not be looked at: {error}"
        yield Finding(check.__name__, what, "Something else may hide behind it.", "see above")


def _shown(found: list[Finding]) -> str:
    if not found:
        return f"Nothing is wrong ({len(CHECKS)} checks)."
    lines = [f"✗ {f.what}\n    why   {f.why}\n    mend  {f.mend}" for f in found]
    return "\n".join([*lines, "", f"{len(found)} found by {len(CHECKS)} checks."])
