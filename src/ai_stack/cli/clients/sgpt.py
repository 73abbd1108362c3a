"""shell-gpt: address and model in ~/.config/shell_gpt/.sgptrc, lines of KEY=VALUE."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ai_stack.cli.clients import CHAT_SCOPES, Aim, Capability, Edit, Places, Proof, Target
from ai_stack.cli.clients.files import Malformed

TIMEOUT_S = 600


class ShellGpt:
    """Documented in its README; it writes missing keys into the file itself, and drops comments."""

    projects = False
    scopes = CHAT_SCOPES

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        key, no_key = target.entries("OPENAI_API_KEY")
        named = {"API_BASE_URL": target.api, "DEFAULT_MODEL": target.model}
        wanted = {**named, "USE_LITELLM": "false", **key}
        absent = {**no_key, "REQUEST_TIMEOUT": str(TIMEOUT_S)}
        path = places.home / ".config" / "shell_gpt" / ".sgptrc"  # whatever XDG_CONFIG_HOME says
        return [Edit(path, lambda text: _changed(text, wanted, absent), secret=bool(key))]

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        return ['Ask: sgpt "…"']

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        found = _values(text)
        url = found.get("API_BASE_URL", "")
        return [Aim(url, found.get("DEFAULT_MODEL"), found.get("OPENAI_API_KEY"))] if url else []

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        program = shutil.which("sgpt")
        if program is None:
            return {}
        ask = (program, "--no-cache", "--no-md", "--no-functions", "Say ok.")
        return {"stream": Proof(ask)}  # it always asks for a stream


def _values(text: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            key, equals, value = line.strip().partition("=")
            if not equals:
                raise Malformed(f"line {number} is not KEY=VALUE")
            found[key] = value
    return found


def _changed(text: str, wanted: Mapping[str, str], absent: Mapping[str, str]) -> str:
    present = {key for key, value in _values(text).items() if value}
    for key, value in (*wanted.items(), *absent.items()):
        if key in wanted or key not in present:
            text = _set(text, key, value)
    return text


def _set(text: str, key: str, value: str) -> str:
    line = re.compile(rf"^[ \t]*{re.escape(key)}=[^\r\n]*", re.MULTILINE)
    if line.search(text):
        return line.sub(lambda _: f"{key}={value}", text)
    ended = text if not text or text.endswith("\n") else f"{text}\n"
    return f"{ended}{key}={value}\n"


CLIENT = ShellGpt()
