"""The command `llm`: one model in its extra-openai-models.yaml, called `ai-stack`."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ai_stack.cli.clients import (
    CHAT_SCOPES,
    KEY,
    Aim,
    Capability,
    Edit,
    Places,
    Proof,
    Target,
    jsonc,
    yaml,
)

FILE, KEYS = "extra-openai-models.yaml", "keys.json"
ID = "ai-stack"


class Llm:
    """Documented at llm.datasette.io/en/stable/other-models.html.

    The file has no place for embedding models: those come from plugins only. Keys are kept as
    `llm keys set` keeps them.
    """

    projects = False
    scopes = CHAT_SCOPES

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        named = {"api_key_name": ID} if target.key else {}
        wanted = {"model_name": target.model, "api_base": target.api, **named}
        absent = {"can_stream": True, "supports_tools": True, "supports_schema": True}
        item = ("model_id", ID)
        edit = Edit(places.llm / FILE, lambda text: yaml.upsert(text, (), item, wanted, absent))
        if not target.key:
            return [edit]
        key = {ID: target.key}
        return [Edit(places.llm / KEYS, lambda text: jsonc.merge(text, key), secret=True), edit]

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        return [
            f'Ask: llm -m {ID} "…"; make it the default: llm models default {ID}',
            "llm takes embedding models from plugins only; embed by `ai-stack search`, or "
            "over HTTP.",
        ]

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        if path.name == KEYS:
            return []
        models = [m for m in yaml.load(text) or [] if isinstance(m, dict)]
        ours = [m for m in models if m.get("model_id") == ID]
        return [
            Aim(m.get("api_base", ""), m.get("model_name"), m.get("api_key_name", KEY))
            for m in ours
        ]

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        program = shutil.which("llm")
        if program is None:
            return {}
        ask = (program, "-m", ID, "--no-log", "Say ok.")
        return {"chat": Proof((*ask, "--no-stream")), "stream": Proof(ask)}


CLIENT = Llm()
