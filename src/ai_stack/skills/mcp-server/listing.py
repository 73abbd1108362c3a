"""The tools of a server, as far as they can be shown: bounded, and read as data.

What a server writes of its tools goes to language models. Characters that nobody sees are taken
out, and a text that gives a model orders is withheld, so that it is never read as one.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mcp import Client, MCPError
from mcp_types import METHOD_NOT_FOUND, PaginatedRequestParams, Tool

from ai_stack.skill import JSON

from .connection import ServerFailed, conversed
from .masking import Mask, visible
from .servers import Entry

MAX_TOOLS, MAX_PAGES, MAX_SERVER_BYTES, MAX_SCHEMA_BYTES = 256, 64, 192 << 10, 32 << 10
MAX_DESCRIPTION, MAX_SCHEMA_TEXT, MAX_KEY = 2000, 1000, 128
NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")
WITHHELD = "(Withheld: this text gives orders to whoever reads it.)"
ORDERS = re.compile(
    r"<\s*/?\s*(important|system|secret|instructions?|assistant)\s*>"
    r"|\b(ignore|disregard|forget)\s+(all|any|the|your|of|these|previous|prior|earlier|above|\s)*"
    r"(instruction|prompt|rule|message)s?\b"
    r"|\b(do\s+not|don't|never)\s+(tell|mention|inform|reveal|show|notify|let)\b[^.]{0,60}\buser\b"
    r"|\bwithout\s+(telling|informing|asking|notifying)\s+the\s+user\b"
    r"|(~/|/)\.(ssh|aws|gnupg|netrc|env)\b|\bid_(rsa|ed25519)\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Listed:
    """What one server answered; `notes` say what of it is not shown."""

    name: str
    protocol: str = ""
    error: str = ""
    tools: list[dict[str, JSON]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def json(self) -> dict[str, JSON]:
        """As callers get it."""
        about: dict[str, JSON] = {"name": self.name, "ready": not self.error}
        about |= {"error": self.error} if self.error else {"protocol": self.protocol}
        return {**about, "tools": [*self.tools]}


async def listed(entry: Entry, wait_s: float) -> Listed:
    """Ask one server; its failure is part of the answer."""

    async def work(client: Client) -> Listed:
        tools, notes = await all_tools(client)
        found = Listed(entry.name, str(client.protocol_version), notes=notes)
        _show(entry, tools, found)
        return found

    try:
        return await conversed(entry, wait_s, work)
    except ServerFailed as error:
        return Listed(entry.name, error=str(error))


async def all_tools(client: Client) -> tuple[list[Tool], list[str]]:
    """The tools of all pages, up to the bounds, and a note where those cut them off."""
    found: list[Tool] = []
    cursor, seen = None, set[str | None]()
    while cursor not in seen and len(seen) < MAX_PAGES and len(found) <= MAX_TOOLS:
        seen.add(cursor)
        try:
            page = await client.session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        except MCPError as error:
            if error.error.code == METHOD_NOT_FOUND and not found:
                return [], []  # a server of resources or prompts alone
            raise
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    cut = cursor is not None or len(found) > MAX_TOOLS
    notes = [f"It lists tools without end; {MAX_TOOLS} at most are shown."] if cut else []
    return found[:MAX_TOOLS], notes


def _show(entry: Entry, tools: list[Tool], found: Listed) -> None:
    """Put tools into the answer until it is full."""
    left, names, odd, withheld = MAX_SERVER_BYTES, set[str](), 0, list[str]()
    for number, tool in enumerate(tools):
        if not NAME.fullmatch(tool.name) or tool.name in names or _has_odd_key(tool.input_schema):
            odd += 1
            continue
        names.add(tool.name)
        shown, orders = tool_json(entry, tool)
        left -= len(json.dumps(shown))
        if left < 0:
            found.notes.append(f"{len(tools) - number} tools are left out: they say too much.")
            break
        found.tools.append(shown)
        withheld += [tool.name] if orders else []
    if odd:
        found.notes.append(f"{odd} tools are left out: their names are odd or not their own.")
    if withheld:
        found.notes.append(f"Texts that give orders are withheld: {', '.join(withheld[:10])}.")


def tool_json(entry: Entry, tool: Tool) -> tuple[dict[str, JSON], bool]:
    """A tool as callers get it, and whether a text of it was withheld."""
    mask, hints = Mask(entry.way), tool.annotations
    description = told(mask, tool.description or "", MAX_DESCRIPTION)
    parameters, orders = _schema(mask, tool.input_schema)
    shown: dict[str, JSON] = {
        "name": tool.name,
        "description": description,
        "parameters": parameters,
        "read_only": hints is not None and hints.read_only_hint is True,
    }
    return shown, orders or description == WITHHELD


def told(mask: Mask, text: str, longest: int) -> str:
    """A text of a server: what can be seen of it, as much as is shown, or that it is withheld."""
    seen = visible(mask.text(text[: 8 * longest])).strip()
    if ORDERS.search(seen):
        return WITHHELD
    return seen if len(seen) <= longest else f"{seen[: longest - 1]}…"


def _schema(mask: Mask, schema: Mapping[str, object]) -> tuple[JSON, bool]:
    """A tool's parameters; of any object where they are too large to show."""
    plain = mask.value(schema)
    if not isinstance(plain, dict) or len(json.dumps(plain)) > MAX_SCHEMA_BYTES:
        return {"type": "object"}, False
    found = _told_within(mask, {**plain, "type": "object"})
    return found, WITHHELD in json.dumps(found)


def _told_within(mask: Mask, value: JSON) -> JSON:
    if isinstance(value, str):
        return told(mask, value, MAX_SCHEMA_TEXT)
    if isinstance(value, dict):
        return {key: _told_within(mask, item) for key, item in value.items()}
    return [_told_within(mask, item) for item in value] if isinstance(value, list) else value


def _has_odd_key(schema: object) -> bool:
    """Whether a name in it is a text in disguise."""
    return any(len(key) > MAX_KEY or ORDERS.search(key) for key in _keys(schema))


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from _keys(item)
