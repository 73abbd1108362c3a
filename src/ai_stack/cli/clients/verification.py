"""Proves that a client can chat, stream, call tools and embed: by itself where it is installed.

What the client cannot prove alone is proved over HTTP, as it would ask.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ai_stack.cli.clients import CAPABILITIES, KEY, Capability, Proof, Target
from ai_stack.cli.clients.served import direct
from ai_stack.cli.options import printable, shortened
from ai_stack.errors import AIStackError
from ai_stack.settings import environment_with

LONGEST_S = 300.0
REPORT = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
TOOL = {"type": "function", "function": {"name": "report", "parameters": REPORT}}


class NotProved(AIStackError):
    """What was asked did not come about; the message says what came instead."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One capability, proved `through` a program or HTTP; `failure` is empty when it works."""

    capability: Capability
    through: str
    failure: str
    seconds: float


def verify(target: Target, name: str, proofs: Mapping[Capability, Proof]) -> Iterator[Verdict]:
    """Prove every capability, one after the other."""
    for capability in CAPABILITIES:
        begun = time.monotonic()
        proof = proofs.get(capability)
        failure = _failure(target, capability, proof)
        through = name if proof is not None else "HTTP"
        yield Verdict(capability, through, failure, time.monotonic() - begun)


def _failure(target: Target, capability: Capability, proof: Proof | None) -> str:
    try:
        if proof is not None:
            _by_itself(proof)
        else:
            _OVER_HTTP[capability](target)
    except NotProved as error:
        return error.message
    except httpx.TimeoutException:
        return f"no answer within {LONGEST_S:.0f} s"
    except httpx.HTTPError:
        return "the gateway does not answer, or broke off"
    except (KeyError, IndexError, TypeError, ValueError):
        return "the answer does not have the form of OpenAI's"
    return ""


def _by_itself(proof: Proof) -> None:
    with tempfile.TemporaryDirectory(prefix="ai-stack-verify-") as folder:
        try:
            done = subprocess.run(
                proof.command,
                cwd=folder,
                env=environment_with(proof.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired:
            raise NotProved(f"it did not end within {LONGEST_S:.0f} s") from None
    if done.returncode != 0 or proof.said not in done.stdout:
        said = (done.stdout, done.stderr) if done.returncode == 0 else (done.stderr, done.stdout)
        last = next(filter(None, map(_last, said)), "it said nothing")
        raise NotProved(f"{Path(proof.command[0]).name} exited with {done.returncode}: {last}")


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip(" │╭╮╰╯─")]
    return shortened(printable(lines[-1]), 200) if lines else ""


def _chat(target: Target) -> None:
    answer = _asked(target, "chat/completions", _question(target))
    _expect(answer["choices"][0]["message"]["role"] == "assistant", answer)


def _tools(target: Target) -> None:
    more = {"tools": [TOOL], "tool_choice": "required", "max_tokens": 256, "temperature": 0}
    asked = "Call the tool `report` with ok set to true."
    answer = _asked(target, "chat/completions", {**_question(target, asked), **more})
    calls = answer["choices"][0]["message"].get("tool_calls")
    if not calls:
        raise NotProved("the model called no function; one that is made for tools does")
    called = calls[0]["function"]
    _expect(called["name"] == "report" and "ok" in json.loads(called["arguments"]), answer)


def _embeddings(target: Target) -> None:
    if target.embedding_model is None:
        raise NotProved("the gateway names no embedding model")
    body = {"model": target.embedding_model, "input": ["heron"]}
    answer = _asked(target, "embeddings", body)
    _expect(len(answer["data"][0]["embedding"]) > 1, answer)


def _stream(target: Target) -> None:
    body = {**_question(target), "stream": True}
    with _client(target) as client:
        address = f"{target.api}/chat/completions"
        with client.stream("POST", address, json=body) as reply:
            if not reply.is_success:
                reply.read()
                raise NotProved(_refusal(reply))
            events = [line[5:].strip() for line in reply.iter_lines() if line.startswith("data:")]
    _expect(len(events) > 1 and events[-1] == "[DONE]", events[-1:])
    _expect(any(json.loads(event).get("choices") for event in events[:-1]), events[:1])


def _question(target: Target, content: str = "Say ok.") -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": target.model, "messages": messages, "max_tokens": 16}


def _asked(target: Target, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    with _client(target) as client:
        reply = client.post(f"{target.api}/{path}", json=body)
    if not reply.is_success:
        raise NotProved(_refusal(reply))
    found: dict[str, Any] = reply.json()
    return found


def _client(target: Target) -> httpx.Client:
    """One that shows what the client itself would show."""
    return direct(target.url, LONGEST_S, target.key or KEY)


def _refusal(reply: httpx.Response) -> str:
    try:
        reason = str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        reason = reply.text
    return f"{reply.status_code}: {shortened(printable(reason), 200)}"


def _expect(good: bool, answer: object) -> None:
    if not good:
        raise NotProved(f"the answer was {shortened(printable(json.dumps(answer)), 200)}")


_OVER_HTTP: Mapping[Capability, Callable[[Target], None]] = {
    "chat": _chat,
    "stream": _stream,
    "tools": _tools,
    "embeddings": _embeddings,
}
