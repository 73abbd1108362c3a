"""OpenAI's own libraries, and what reads the same variables: lines for a shell to evaluate."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ai_stack.cli.clients import CHAT_SCOPES, KEY, Aim, Capability, Edit, Places, Proof, Target

START_S = 30.0
CHAT = """
import sys, openai
model = sys.argv[1]
client = openai.OpenAI()
ask = {"model": model, "messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 16}
"""
PROOFS: Mapping[Capability, str] = {
    "chat": f"{CHAT}assert client.chat.completions.create(**ask).choices[0].message",
    "stream": f"{CHAT}assert any(c.choices for c in client.chat.completions.create("
    "**ask, stream=True))",
    "tools": f"{CHAT}\nimport json\n"
    'what = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}\n'
    'tool = {"type": "function", "function": {"name": "report", "parameters": what}}\n'
    'ask |= {"max_tokens": 256, "temperature": 0}\n'
    'ask["messages"][0]["content"] = "Call the tool `report` with ok set to true."\n'
    'said = client.chat.completions.create(**ask, tools=[tool], tool_choice="required")\n'
    "call = said.choices[0].message.tool_calls[0].function\n"
    'assert call.name == "report" and "ok" in json.loads(call.arguments), call',
    "embeddings": "import sys, openai\n"
    'found = openai.OpenAI().embeddings.create(model=sys.argv[1], input=["heron"])\n'
    "assert len(found.data[0].embedding) > 1",
}


class OpenAI:
    """Documented in the libraries' READMEs: OPENAI_BASE_URL; OPENAI_API_BASE is the older name."""

    projects = False
    scopes = CHAT_SCOPES

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        return []

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        return [f"export {name}={shlex.quote(value)}" for name, value in _variables(target).items()]

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        return []

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        python = _python()
        if python is None:
            return {}
        variables = _variables(target)
        return {
            capability: Proof((python, "-c", script, model), environment=variables)
            for capability, script in PROOFS.items()
            if (model := target.embedding_model if capability == "embeddings" else target.model)
        }


def _variables(target: Target) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": target.api,
        "OPENAI_API_BASE": target.api,
        "OPENAI_API_KEY": target.key or KEY,
        "OPENAI_MODEL": target.model,
    }


def _python() -> str | None:
    """The first Python that has the library: the one on the path, or this one."""
    for program in filter(None, (shutil.which("python3"), sys.executable)):
        command = [program, "-c", "import openai"]
        if subprocess.run(command, capture_output=True, timeout=START_S).returncode == 0:
            return program
    return None


CLIENT = OpenAI()
