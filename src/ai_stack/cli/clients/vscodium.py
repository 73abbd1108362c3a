"""VSCodium: models by the extension Continue, the gateway's tools by the editor's mcp.json."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ai_stack.cli.clients import (
    TOOL_SCOPES,
    Aim,
    Capability,
    Edit,
    Places,
    Proof,
    Target,
    authorization,
    continue_dev,
    jsonc,
)

SERVER = "ai-stack"
EXTENSION = "continue.continue"


class VSCodium:
    """MCP as VS Code has it since 1.102: `servers` in the user's mcp.json or .vscode/mcp.json."""

    projects = True
    scopes = TOOL_SCOPES

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        wanted = {"servers": {SERVER: {"type": "http", "url": target.mcp, **target.headers}}}
        change = partial(jsonc.merge, wanted=wanted)
        tools = Edit(_mcp(places), change, secret=bool(target.key))
        return [tools] if places.project else [*continue_dev.CLIENT.edits(target, places), tools]

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        if places.project:
            return []
        if any((places.home / ".vscode-oss" / "extensions").glob(f"{EXTENSION}-*")):
            return continue_dev.CLIENT.steps(target, places)
        return [
            "VSCodium speaks to models by an extension; Continue is not installed yet:",
            "  codium --install-extension Continue.continue",
        ]

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        if path.suffix == ".yaml":
            return continue_dev.CLIENT.aims(path, text)
        server = (jsonc.load(text).get("servers") or {}).get(SERVER) or {}
        return [Aim(server["url"], key=authorization(server))] if "url" in server else []

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        return {}


def _mcp(places: Places) -> Path:
    if places.project:
        return places.project / ".vscode" / "mcp.json"
    flatpak = places.home / ".var/app/com.vscodium.codium/config/VSCodium"
    folder = flatpak if flatpak.is_dir() else places.config / "VSCodium"
    return folder / "User" / "mcp.json"


CLIENT = VSCodium()
