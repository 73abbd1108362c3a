"""Aider: its address and model in .aider.conf.yml, the context length in its model metadata."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ai_stack.cli.clients import (
    CHAT_SCOPES,
    Aim,
    Capability,
    Edit,
    Places,
    Proof,
    Target,
    jsonc,
    yaml,
)

CONFIGURATION, METADATA = ".aider.conf.yml", ".aider.model.metadata.json"
QUIET = (
    *("--no-git", "--no-check-update", "--no-analytics", "--no-pretty", "--yes-always"),
    *("--no-gitignore", "--no-suggest-shell-commands", "--no-detect-urls", "--map-tokens", "0"),
    *("--chat-mode", "ask", "--message", "Say ok."),
)
ANSWERED = "received"  # `Tokens: 512 sent, 7 received.`, printed after an answer only


class Aider:
    """Documented at aider.chat/docs/config; without metadata aider knows no context length.

    Its model settings file is left alone: an entry there would replace the edit format that
    aider chooses by a model's name.
    """

    projects = True
    scopes = CHAT_SCOPES

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        folder = places.project or places.home
        key, absent = target.entries("openai-api-key")
        wanted = {"openai-api-base": target.api, "model": f"openai/{target.model}", **key}
        change = partial(yaml.merge, wanted=wanted, absent=absent)
        edits = [Edit(folder / CONFIGURATION, change, secret=bool(key))]
        if target.context_length:
            metadata = {f"openai/{target.model}": _metadata(target.context_length)}
            edits.append(Edit(folder / METADATA, lambda text: jsonc.merge(text, metadata)))
        return edits

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        where = f" in {places.project}" if places.project else ""
        return [f"Start it{where}: aider"]

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        if path.name != CONFIGURATION:
            return []
        found = yaml.load(text) or {}
        model = str(found.get("model", "")).removeprefix("openai/")
        if "openai-api-base" not in found:
            return []
        return [Aim(found["openai-api-base"], model, found.get("openai-api-key"))]

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        program = shutil.which("aider")
        if program is None:
            return {}
        own = _files(places.project) if places.project else ()
        return {
            "chat": Proof((program, "--no-stream", *QUIET, *own), ANSWERED),
            "stream": Proof((program, "--stream", *QUIET, *own), ANSWERED),
        }


def _files(folder: Path) -> tuple[str, ...]:
    files = ("--config", str(folder / CONFIGURATION))
    return (*files, "--model-metadata-file", str(folder / METADATA))


def _metadata(context_length: int) -> dict[str, object]:
    return {
        "max_input_tokens": context_length,
        "max_output_tokens": context_length,
        "max_tokens": context_length,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "openai",
        "mode": "chat",
    }


CLIENT = Aider()
