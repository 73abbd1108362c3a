"""The command `llm`: one model in its extra-openai-models.yaml, called `ai-stack`."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ai_stack.cli.clients import Aim, Capability, Edit, Places, Proof, Target, yaml

FILE = "extra-openai-models.yaml"
ID = "ai-stack"


class Llm:
    """Documented at llm.datasette.io/en/stable/other-models.html.

    The file has no place for embedding models: those come from plugins only.
    """

    projects = False

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        wanted = {"model_name": target.model, "api_base": target.api}
        absent = {"can_stream": True, "supports_tools": True, "supports_schema": True}
        item = ("model_id", ID)
        return [Edit(places.llm / FILE, lambda text: yaml.upsert(text, (), item, wanted, absent))]

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        return [
            f'Ask: llm -m {ID} "…"; make it the default: llm models default {ID}',
            "llm takes embedding models from plugins only; embed by `ai-stack search`, or "
            "over HTTP.",
        ]

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        models = [m for m in yaml.load(text) or [] if isinstance(m, dict)]
        ours = [m for m in models if m.get("model_id") == ID]
        return [Aim(m.get("api_base", ""), m.get("model_name")) for m in ours]

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        program = shutil.which("llm")
        if program is None:
            return {}
        ask = (program, "-m", ID, "--no-log", "Say ok.")
        return {"chat": Proof((*ask, "--no-stream")), "stream": Proof(ask)}


CLIENT = Llm()
