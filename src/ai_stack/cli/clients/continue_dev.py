"""Continue, in any editor: models of the provider `openai` in ~/.continue/config.yaml."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_stack.cli.clients import CHAT_SCOPES, Aim, Capability, Edit, Places, Proof, Target, yaml

CHAT, EMBEDDINGS = "AI Stack", "AI Stack embeddings"
HEAD = {"name": "My assistant", "version": "0.0.1", "schema": "v1"}


class Continue:
    """Documented at docs.continue.dev/reference; entries are known by their `name`."""

    projects = False
    scopes = CHAT_SCOPES

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        path = places.home / ".continue" / "config.yaml"
        return [Edit(path, lambda text: _changed(text, target), secret=bool(target.key))]

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        return [f'Choose "{CHAT}" in the list of models of Continue; it reads the file by itself.']

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        models = (yaml.load(text) or {}).get("models") or []
        ours = [m for m in models if isinstance(m, dict) and m.get("name") in (CHAT, EMBEDDINGS)]
        return [Aim(m.get("apiBase", ""), m.get("model"), m.get("apiKey")) for m in ours]

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        return {}


def _changed(text: str, target: Target) -> str:
    text = yaml.merge(text, {}, HEAD)
    length = target.context_length
    options = {"defaultCompletionOptions": {"contextLength": length}} if length else {}
    roles = ["chat", "edit", "apply", "autocomplete"]
    key, no_key = target.entries("apiKey")
    absent = {**no_key, "roles": roles, "capabilities": ["tool_use"]}
    model = {**_model(target.model, target), **key}
    text = yaml.upsert(text, ("models",), ("name", CHAT), {**model, **options}, absent)
    if target.embedding_model is None:
        return text
    absent = {**no_key, "roles": ["embed"]}
    model = {**_model(target.embedding_model, target), **key}
    return yaml.upsert(text, ("models",), ("name", EMBEDDINGS), model, absent)


def _model(name: str, target: Target) -> dict[str, Any]:
    return {"provider": "openai", "model": name, "apiBase": target.api}


CLIENT = Continue()
