"""Cursor: the gateway's tools by its mcp.json; models only by hand, in Cursor's own settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ai_stack.cli.clients import KEY, Aim, Capability, Edit, Places, Proof, Target, jsonc

SERVER = "ai-stack"


class Cursor:
    """Documented at cursor.com/docs/mcp: `mcpServers` in ~/.cursor or a project's .cursor."""

    projects = True

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        wanted = {"mcpServers": {SERVER: {"url": target.mcp}}}
        path = (places.project or places.home) / ".cursor" / "mcp.json"
        return [Edit(path, lambda text: jsonc.merge(text, wanted))]

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        return [
            "Cursor keeps models in its own settings, which no file reaches: in Cursor Settings > "
            "Models > API Keys",
            f"  turn on OpenAI API Key and enter: {KEY}",
            f"  turn on Override OpenAI Base URL and enter: {target.api}",
            f"  add a custom model: {target.model}",
            "Cursor's servers, not Cursor itself, send these requests, so they do not reach an "
            "address of this machine: give the gateway a public HTTPS address behind a proxy that "
            "asks for a key, and enter that one. The tools of mcp.json need no such thing.",
        ]

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        server = (jsonc.load(text).get("mcpServers") or {}).get(SERVER) or {}
        return [Aim(server["url"])] if "url" in server else []

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        return {}


CLIENT = Cursor()
