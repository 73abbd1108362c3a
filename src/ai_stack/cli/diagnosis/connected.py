"""The connected clients: whether their files still point at this gateway and a model it serves."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ai_stack.cli import optimizer
from ai_stack.cli.clients import KEY, NAMES, files, find_client, gateway_of
from ai_stack.cli.diagnosis import Finding, Stack
from ai_stack.errors import AIStackError


def noted(stack: Stack) -> Iterator[Finding]:
    """What ai-optimizer.json says of the stack."""
    path = stack.settings.config_dir / optimizer.NAME
    try:
        address = optimizer.load(stack.settings).get("address")
    except AIStackError as error:
        yield Finding(
            "clients",
            error.message,
            "Programs that look for the stack do not find it.",
            f"mv {path} {path}.broken; then ai-stack restart",
        )
        return
    if address is not None and address != stack.url:
        yield Finding(
            "clients",
            f"{path} names {address}, and the gateway is set to {stack.url}.",
            "Programs that look for the stack look in the wrong place.",
            "ai-stack restart" if stack.runs else "ai-stack up",
        )


def clients(stack: Stack) -> Iterator[Finding]:
    for name, row in _connected(stack).items():
        for path in map(Path, row.get("files", ())):
            yield from _file(stack, name, row, path)


def _connected(stack: Stack) -> dict[str, Any]:
    try:
        found = optimizer.load(stack.settings).get("clients")
    except AIStackError:
        return {}
    known = found if isinstance(found, dict) else {}
    return {n: row for n, row in known.items() if n in NAMES and isinstance(row, dict)}


def _file(stack: Stack, name: str, row: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    again = f"ai-stack connect {name}"
    again += f" --project-dir {row['project']}" if "project" in row else ""
    try:
        aims = find_client(name).aims(path, files.read(path))
    except AIStackError as error:
        what = f"{path}: {error.message.rstrip('.')}."
        why = f"{name} cannot read it either, or ignores it."
        yield Finding("clients", what, why, f"mend the file, then {again}")
        return
    expected = row.get("url", stack.url)  # one that was given by hand is meant
    for aim in aims:
        address = gateway_of(aim.url)
        if address != expected:
            what = f"{name} speaks to {address}, by {path}."
            yield Finding("clients", what, f"The gateway is at {expected}.", again)
        elif address == stack.url and not _serves(stack, aim.model):
            what = f"{name} asks for the model {aim.model}, by {path}."
            yield Finding("clients", what, "It is not served any more: requests fail.", again)
        elif address == stack.url and stack.asks and aim.key == KEY:
            what = f"{name} shows no key, by {path}."
            yield Finding("clients", what, "The gateway asks for one, and refuses it.", again)


def _serves(stack: Stack, model: str | None) -> bool:
    """Whether requests for it can succeed, as far as is known."""
    found = stack.served
    if found is None or model is None:
        return True
    return model == found.embedding_model or found.find(model) is not None
