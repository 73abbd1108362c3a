"""Row 27: secrets that the stack is given or makes, looked for wherever it tells anything.

Looked through: every log at its most talkative, every answer and failure, what the command line
prints, a dump of the database, Redis' files, and all that a user's skill can see.
"""

import asyncio
import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import run
from urllib.parse import quote

import httpx

from ai_stack.services.auth.credentials import operator_token
from ai_stack.supervisor import postgres
from reliability.grounds import Ground, answers, end, faulty, stack
from reliability.verdicts import Measured, Row, Trial
from stacks import free_port

NAME, PASSWORD = "planted", "a planted pass phrase 4711"
SHOWN_BY = ("settings", "doctor", "status", "health", "keys list", "users list", "whoami", "audit")
SKILL = '''
import os
from pathlib import Path

from ai_stack.skill import Skill, SkillResult, action

class Peek(Skill):
    @action
    async def look(self) -> SkillResult:
        """Tell all that can be seen."""
        seen = [dict(os.environ)]
        for file in [*Path("/proc").glob("*/environ"), *Path("/proc").glob("*/cmdline")]:
            try:
                seen.append(file.read_bytes().decode("latin-1"))
            except OSError:
                pass
        return SkillResult({"seen": repr(seen)})
'''
HEAD = "---\nname: peek\ndescription: Looks around.\n---\n"


@dataclass
class Told:
    """What was said, by where; secrets by what they are."""

    secrets: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)

    def plant(self, name: str, value: str | bytes | None = None) -> str:
        """A new secret of a name, or one that the stack has made."""
        made = value if value is not None else f"planted-{secrets.token_hex(12)}"
        self.secrets[name] = made.encode() if isinstance(made, str) else made
        return made if isinstance(made, str) else made.hex()

    def hear(self, place: str, text: str | bytes) -> None:
        given = text.encode() if isinstance(text, str) else text
        self.texts[place] = self.texts.get(place, b"") + b"\n" + given

    def found(self) -> list[str]:
        return [
            f"{name} in {place}"
            for name, secret in self.secrets.items()
            for place, text in self.texts.items()
            if any(form in text for form in _forms(secret))
        ]


def _forms(secret: bytes) -> Iterator[bytes]:
    """A secret as it is, and as it is written in hexadecimal, base64 and addresses."""
    yield from (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"="))
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    yield quote(secret, safe="").encode()
    yield json.dumps(secret.decode("latin-1"))[1:-1].encode()


async def measure(trial: Trial) -> Measured:
    """Give and make secrets on a stack of the row's own, then look for each."""
    return await asyncio.to_thread(_measured, trial)


def _measured(trial: Trial) -> Measured:
    told = Told()
    with stack(AI_STACK_AUTH="required", AI_STACK_LOG_LEVEL="debug", **_given(told)) as ground:
        _write_skill(ground)
        if trial.plant is None:
            _live(told, ground, ground.port)
        else:
            _live_with(trial.plant, told, ground)
        _read_secrets(told, ground)
        _look(told, ground)
    found = told.found()
    trial.log.write("told", places={name: len(text) for name, text in told.texts.items()})
    figures = {"secrets": len(told.secrets), "places": len(told.texts), "found": len(found)}
    faults = [f"there were only {len(told.secrets)} secrets"] if len(told.secrets) < 20 else []
    return Measured(figures, (*faults, *found))


def _given(told: Told) -> dict[str, str]:
    """Secrets of the settings."""
    engine = f"https://:{told.plant('engine key')}@127.0.0.1:9/v1"
    return {
        "AI_STACK_ENGINES": f"llama-cpp: {engine}",
        "AI_STACK_EMBEDDER_API_KEY": told.plant("embedder key"),
        "AI_STACK_QDRANT_API_KEY": told.plant("Qdrant key"),
        "HUGGING_FACE_HUB_TOKEN": told.plant("hub token"),
        "POSTGRES_PASSWORD": told.plant("PostgreSQL password"),
        "REDIS_PASSWORD": told.plant("Redis password"),
    }


def _write_skill(ground: Ground) -> None:
    folder = ground.settings.config_dir / "skills" / "peek"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(HEAD)
    (folder / "skill.py").write_text(SKILL)


def _live_with(plant: str, told: Told, ground: Ground) -> None:
    port = free_port()
    process = faulty(ground, plant, "serve", AI_STACK_PORT=str(port))
    try:
        asyncio.run(answers(port, process))
        environment = {**ground.environment, "AI_STACK_PORT": str(port)}
        _live(told, replace(ground, environment=environment), port)
    finally:
        end(process)


def _live(told: Told, ground: Ground, port: int) -> None:
    """Make keys, users and tokens, use them, and use them wrongly."""
    scopes = [part for scope in ("read", "infer", "skills") for part in ("--scope", scope)]
    key = json.loads(ground.command("keys", "create", NAME, *scopes, "--json"))
    told.plant("key", key["key"])
    told.plant(
        "rotated key", json.loads(ground.command("keys", "rotate", key["id"], "--json"))["key"]
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
        http.event_hooks["response"] = [lambda reply: told.hear("answers", reply.read())]
        operator = {"Authorization": f"Bearer {_operator(ground)}"}
        _as_user(told, http, operator)
        _wrongly(told, http)
        _peek(told, http, operator)


def _operator(ground: Ground) -> str:
    return operator_token((ground.settings.secrets / "operator").read_bytes())


def _as_user(told: Told, http: httpx.Client, operator: dict[str, str]) -> None:
    """A user, two passwords, a login of each kind, a token that is signed."""
    first, second = told.plant("password", PASSWORD), told.plant("new password", PASSWORD + " 2")
    made = http.post(
        "/users", json={"name": NAME, "password": first, "is_admin": True}, headers=operator
    )
    assert made.status_code == 201, made.text
    change = {"name": NAME, "password": first, "new_password": second}
    assert http.post("/auth/password", json=change).status_code == 204
    quiet = httpx.Client(base_url=http.base_url, timeout=60, trust_env=False)
    login = {"name": NAME, "password": second}
    shell = quiet.post("/auth/login", json={**login, "kind": "shell"}).json()["token"]
    quiet.post("/auth/login", json=login)
    told.plant("cookie", quiet.cookies["aidb_session"])
    quiet.cookies.clear()
    as_user = {"Authorization": f"Bearer {told.plant('login', shell)}"}
    signed = quiet.post("/auth/token", json={}, headers=as_user).json()
    told.plant("signed token", signed["access_token"])
    quiet.close()
    for headers in (as_user, {"x-api-key": signed["access_token"]}):
        assert http.get("/documents", headers=headers).status_code == 200


def _wrongly(told: Told, http: httpx.Client) -> None:
    """Credentials in the wrong places, requests that fail."""
    wrong = told.plant("wrong key", "aidb_wrongkey_" + secrets.token_hex(26))
    for headers in ({"Authorization": f"Bearer {wrong}"}, {"Authorization": f"Basic {wrong}"}):
        assert http.get("/documents", headers=headers).status_code == 401
    http.get("/documents", params={"api_key": told.plant("key in an address")})
    tried = {"name": NAME, "password": told.plant("wrong password")}
    assert http.post("/auth/login", json=tried).status_code in (401, 429)
    http.post("/auth/login", content=f'{{"password": "{told.plant("broken body")}'.encode())


def _peek(told: Told, http: httpx.Client, operator: dict[str, str]) -> None:
    """What a user's skill sees, and what an engine that fails is asked with."""
    done = http.post(
        "/skills/peek/execute", json={"parameters": {"action": "look"}}, headers=operator
    )
    assert done.json()["status"] == "succeeded", done.text
    told.hear("a skill", done.text)
    chat = {"model": "none", "messages": [{"role": "user", "content": "hello"}]}
    http.post("/v1/chat/completions", json=chat, headers=operator)
    for path in ("/health", "/metrics", "/v1/models", "/keys", "/users", "/audit"):
        told.hear(path, http.get(path, headers=operator).content)


def _read_secrets(told: Told, ground: Ground) -> None:
    for file in sorted(ground.settings.secrets.iterdir()):
        if file.is_file():
            told.plant(f"secrets/{file.name}", file.read_bytes())


def _look(told: Told, ground: Ground) -> None:
    """Everything that is written down or printed."""
    for verb in SHOWN_BY:
        told.hear(f"ai-stack {verb}", _printed(ground, verb))
    logs = (*(ground.settings.data_dir / "logs").iterdir(), *ground.folder.glob("*.log"))
    for file in logs:
        told.hear(f"log {file.name}", file.read_bytes())
    for folder in ground.settings.data_dir.glob("redis*"):
        for file in filter(Path.is_file, folder.rglob("*")):
            told.hear(f"{folder.name}/{file.name}", file.read_bytes())
    where = ("-h", str(ground.settings.runtime), "-U", "postgres", "-d", "aidb")
    dump = run([postgres.binaries(18) / "pg_dump", *where], capture_output=True, check=True)
    told.hear("a dump", dump.stdout)


def _printed(ground: Ground, verb: str) -> str:
    try:
        return ground.command(*verb.split())
    except RuntimeError as failed:
        return str(failed)


ROWS = (
    Row(
        27,
        "secrets that are given or made are told nowhere",
        "of 20 planted secrets 0 found",
        measure,
        ("chatty-log", "plain-keys"),
        calm=True,
    ),
)
