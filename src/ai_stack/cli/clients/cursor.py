"""Cursor: the gateway's tools by its mcp.json; models only by hand, in Cursor's own settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ai_stack.cli.clients import (
    KEY,
    TOOL_SCOPES,
    Aim,
    Capability,
    Edit,
    Places,
    Proof,
    Target,
    authorization,
    jsonc,
)

SERVER = "ai-stack"
KEYED = "The key is the one that mcp.json has."
KEYLESS = (
    "Have it ask for a key first, and enter it in the place of `local`: `ai-stack keys create "
    "cursor` makes one, and from the first key on the gateway asks for it."
)


class Cursor:
    """Documented at cursor.com/docs/mcp: `mcpServers` in ~/.cursor or a project's .cursor."""

    projects = True
    scopes = TOOL_SCOPES

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        wanted = {"mcpServers": {SERVER: {"url": target.mcp, **target.headers}}}
        path = (places.project or places.home) / ".cursor" / "mcp.json"
        return [Edit(path, lambda text: jsonc.merge(text, wanted), secret=bool(target.key))]

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        return [
            "Cursor keeps models in its own settings, which no file reaches: in Cursor Settings > "
            "Models > API Keys",
            f"  turn on OpenAI API Key and enter: {target.key or KEY}",
            f"  turn on Override OpenAI Base URL and enter: {target.api}",
            f"  add a custom model: {target.model}",
            "Cursor's servers, not Cursor itself, send these requests, so they do not reach an "
            "address of this machine: give the gateway a public HTTPS address and enter that one. "
            f"{KEYED if target.key else KEYLESS} The tools of mcp.json need no such address.",
        ]

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        server = (jsonc.load(text).get("mcpServers") or {}).get(SERVER) or {}
        return [Aim(server["url"], key=authorization(server))] if "url" in server else []

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        return {}


CLIENT = Cursor()
