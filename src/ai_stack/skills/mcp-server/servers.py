"""The servers that the user's settings name: `mcp.json` in the stack's config folder.

The one place that says what may be started or reached. It knows no protocol, and never writes.
"""

import json
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ai_stack.skill import SkillFailed

FILE, FOLDER, KEY = "mcp.json", "nixos-ai-stack", "mcpServers"
MAX_FILE_BYTES, MAX_SERVERS, MAX_ARGS, MAX_TEXT = 1 << 20, 32, 256, 8192
NAME = re.compile(r"[A-Za-z0-9][\w. -]{0,63}", re.ASCII)
FILLED_IN_BY_EDITORS = re.compile(r"\$\{(env|input|config|workspaceFolder|userHome|file)\b")
SELF_TEST = "self-test"
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
NonEmpty = Annotated[Text, StringConstraints(min_length=1)]


class Command(BaseModel):
    """A server that is a program of its own, spoken with over its standard input and output."""

    model_config = ConfigDict(coerce_numbers_to_str=True, frozen=True)

    command: NonEmpty
    args: Annotated[list[Text], Field(max_length=MAX_ARGS)] = []
    env: dict[str, Text] = {}
    cwd: Text = ""


class Endpoint(BaseModel):
    """A server that is reached by streamable HTTP."""

    model_config = ConfigDict(coerce_numbers_to_str=True, frozen=True)

    url: NonEmpty
    headers: dict[str, Text] = {}


Way: TypeAlias = Command | Endpoint


@dataclass(frozen=True, slots=True)
class Entry:
    """One server of the file; `fault` says why it can't be used, and then there is no way to it."""

    name: str
    way: Way | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Servers:
    """All servers of the file, and what is to be said of the file itself."""

    entries: Sequence[Entry]
    notes: Sequence[str] = ()


def settings_file() -> Path:
    """Where the servers are named, whether it is there or not."""
    named = os.environ.get("AI_STACK_CONFIG_DIR")
    if named:
        return Path(named) / FILE
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / FOLDER / FILE


def read_servers() -> Servers:
    """The servers of the settings; SkillFailed for a file that is not of the editors' form."""
    file = settings_file()
    found = _object(file)
    told = [] if found is not None else [f"No server is configured: there is no {file}."]
    named = (found or {}).get(KEY, {})
    if not isinstance(named, dict):
        raise SkillFailed(f"`{KEY}` of {FILE} must be an object of servers by their names.")
    on = {name: one for name, one in named.items() if not _is_off(one)}
    if len(on) < len(named):
        told.append(f"Switched off in {FILE}: {len(named) - len(on)}.")
    if len(on) > MAX_SERVERS:
        told.append(f"{FILE} names {len(on)} servers; those after the first {MAX_SERVERS} wait.")
    entries = [entry_of(str(name), on[name]) for name in [*on][:MAX_SERVERS]]
    return Servers(entries, (*told, *_openness(file)))


def server_named(name: str) -> Entry:
    """One server by its name; SkillFailed names those that there are."""
    if name == SELF_TEST:
        return self_test()
    entries = {entry.name: entry for entry in read_servers().entries}
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise SkillFailed(f"The settings name no server {name[:64]!r}; they name: {known}.")
    return entries[name]


def self_test() -> Entry:
    """A server that comes with this skill, to see that calls work where none is configured."""
    code = Path(__file__).with_name("selftest.py")
    return Entry(SELF_TEST, Command(command=sys.executable, args=["-B", str(code)]))


def entry_of(name: str, told: object) -> Entry:
    """One entry as the file has it, with what is wrong with it."""
    if not NAME.fullmatch(name):
        return Entry(
            re.sub(r"[^\w. -]", "?", name)[:64] or "?", None, "Its name has odd characters."
        )
    if not isinstance(told, dict):
        return Entry(name, None, "It must be an object with `command` or with `url`.")
    if ("command" in told) == ("url" in told):
        return Entry(name, None, "It must have either `command` or `url`.")
    kind: type[Command | Endpoint] = Command if "command" in told else Endpoint
    try:
        way = kind.model_validate(told)
    except ValidationError as error:
        places = {str(e["loc"][0]) for e in error.errors(include_url=False, include_input=False)}
        return Entry(name, None, f"Not of the form that it must have: {', '.join(sorted(places))}.")
    fault = _fault(way, str(told.get("type", "")))
    return Entry(name, None if fault else way, fault)


def _fault(way: Way, kind: str) -> str:
    if FILLED_IN_BY_EDITORS.search(way.model_dump_json()):
        return "It has a `${…}` that only an editor fills in: write the value itself."
    if "\\u0000" in way.model_dump_json():
        return "It has a character that no program or address can have."
    if isinstance(way, Command):
        return ""
    if kind == "sse":
        return "It speaks only the transport that streamable HTTP replaced in 2025."
    return fault_of_url(way.url)


def fault_of_url(url: str) -> str:
    """Why a URL can be no server's; nothing where it can."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = None
    return "" if known else "Its `url` must be one of http or https with a host."


def _object(file: Path) -> Mapping[str, object] | None:
    """What the file holds, None where there is none."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise SkillFailed(f"{FILE} in the config folder is no file.")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise SkillFailed(f"{FILE} is larger than {MAX_FILE_BYTES >> 20} MiB.")
        found = json.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        return None
    except OSError:
        raise SkillFailed(f"{FILE} in the config folder cannot be read.") from None
    except json.JSONDecodeError as error:
        raise SkillFailed(f"{FILE} is not JSON from line {error.lineno} on.") from None
    except (ValueError, RecursionError):
        raise SkillFailed(f"{FILE} is not JSON.") from None
    if not isinstance(found, dict):
        raise SkillFailed(f"{FILE} must be an object with `{KEY}`.")
    return found


def _is_off(told: object) -> bool:
    return isinstance(told, dict) and (told.get("disabled") is True or told.get("enabled") is False)


def _openness(file: Path) -> tuple[str, ...]:
    """A warning where others of this machine can read what may hold keys, or write it."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return ()
    if mode & 0o022:
        return (f"Others can write {FILE}, and so choose what is started: chmod 600 ends that.",)
    return (f"Others can read {FILE} with its keys: chmod 600 ends that.",) if mode & 0o044 else ()
