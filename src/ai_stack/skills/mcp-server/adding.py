"""What to write into the settings for a new server, and whether it would work: nothing is written.

Nothing of it is started or reached either: a request must not choose what runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ai_stack.skill import JSON, SkillFailed

from .masking import HIDDEN, Mask
from .process import program_of
from .servers import FILE, KEY, Command, Entry, entry_of, read_servers

FILL_IN = "<your value>"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool
    told: str

    def json(self) -> JSON:
        """As callers get it."""
        return {"what": self.what, "ok": self.ok, "told": self.told}


def proposed(
    name: str,
    command: str,
    args: Sequence[str],
    env: Sequence[str],
    url: str,
    headers: Sequence[str],
) -> tuple[dict[str, JSON], Entry]:
    """The entry to write, with gaps for values that are secret, and the server that it is."""
    if bool(command) == bool(url):
        raise SkillFailed("Give either `command`, for a program, or `url`, for a server over HTTP.")
    told: dict[str, JSON] = {"command": command, "args": [*args]} if command else {"url": url}
    for key, names in (("env", env if command else ()), ("headers", () if command else headers)):
        if names:
            told[key] = dict.fromkeys(names, FILL_IN)
    entry = entry_of(name, told)
    if entry.way is None:
        raise SkillFailed(f"{entry.name}: {entry.fault}")
    mask = Mask(entry_of(name, {k: v for k, v in told.items() if k not in ("env", "headers")}).way)
    found = mask.value(told)
    assert isinstance(found, dict)
    return found, entry


def checks(entry: Entry, shown: dict[str, JSON]) -> list[Check]:
    """Whether the server would be found, and the file would take it."""
    found = [_program(entry.way)] if isinstance(entry.way, Command) else []
    found += [_file(entry.name)]
    if HIDDEN in str(shown):
        told = (
            "It holds what looks like a key; a key belongs into the file alone, not into a request."
        )
        found.append(Check("secrets", False, told))
    return found


def _program(command: Command) -> Check:
    if program_of(command) is None:
        return Check("program", False, f"{command.command} is not on this machine.")
    return Check("program", True, f"{command.command} is there.")


def _file(name: str) -> Check:
    try:
        taken = {entry.name for entry in read_servers().entries}
    except SkillFailed as error:
        return Check("file", False, str(error))
    if name in taken:
        return Check(
            "file", False, f"{FILE} has a server of this name: choose another, or edit it."
        )
    return Check("file", True, f"{FILE} has no server of this name under `{KEY}` yet.")
