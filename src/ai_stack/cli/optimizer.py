"""ai-optimizer.json in the folder of settings: the gateway's address, version and clients.

Other programs read it to find the stack, and may keep keys of their own in it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ai_stack import __version__
from ai_stack.cli.clients import files, jsonc, reachable
from ai_stack.errors import AIStackError
from ai_stack.settings import Settings

NAME = "ai-optimizer.json"


def load(settings: Settings) -> dict[str, Any]:
    """What it says, empty when it is not there; Malformed when it is not a JSON object."""
    path = settings.config_dir / NAME
    text = files.read(path)
    try:
        found = jsonc.load(text)
    except files.Malformed as error:
        raise files.Malformed(f"{path}: {error.message}.") from None
    if not isinstance(found, dict):
        raise files.Malformed(f"{path} is not a JSON object.")
    return found


def record(settings: Settings, address: str, clients: Mapping[str, Any] | None = None) -> Path:
    """Note the address and this version, and clients as they were connected."""
    path = settings.config_dir / NAME
    known = load(settings).get("clients")
    merged = {**(known if isinstance(known, dict) else {}), **(clients or {})}
    base = {"address": address, "openai": f"{address}/v1", "version": __version__}
    found = {**load(settings), **base, "clients": merged}
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if text != files.read(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, text, 0o644)
    return path


def files_of(found: Mapping[str, Any]) -> set[str]:
    """The files that were written for clients before."""
    clients = found.get("clients")
    rows = clients.values() if isinstance(clients, dict) else ()
    return {path for row in rows if isinstance(row, dict) for path in row.get("files", ())}


def announce(settings: Settings, say: Callable[[str], None]) -> None:
    """Note where the stack that has just started is; a file that refuses stops nothing."""
    try:
        record(settings, reachable(settings.gateway_url))
    except OSError as error:
        say(f"{NAME} was not written: {error.strerror}.")
    except AIStackError as error:
        say(f"{error.message} It was left as it is.")
