"""Whoever may ask a gateway that wants to know, and what each is to be told; raw requests.

A gateway with authentication runs beside the ground's own, on the same database. Its callers are
written into the database, since the product makes no key that has expired.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg

from ai_stack.models.principals import EVERY_SCOPE, SCOPES_OF, Scope
from ai_stack.services.auth.credentials import hidden, new_key, operator_token
from ai_stack.services.auth.secrets import open_secrets
from ai_stack.supervisor import parts
from reliability.grounds import Ground, answers, end, faulty
from reliability.verdicts import Trial
from stacks import free_port

Headers = tuple[tuple[str, str], ...]
ANSWER_S = 20.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a token, and what is to come of it: `status` where it is no good at all."""

    name: str
    token: str | None
    status: int | None = None
    scopes: frozenset[Scope] = frozenset()
    project: str | None = None

    def expected(self, needed: frozenset[Scope]) -> int | None:
        """The refusal that is due; None for who is to be let in."""
        if self.status is not None or not needed or needed & self.scopes:
            return self.status
        return 403

    def headers(self, carrier: str = "bearer") -> Headers:
        project = () if self.project is None else (("X-Project", self.project),)
        return (() if self.token is None else carried(self.token, carrier)) + project


def carried(token: str, carrier: str) -> Headers:
    """A token as one of the carriers brings it; a browser names its page beside a cookie."""
    if carrier == "bearer":
        return (("Authorization", f"Bearer {token}"),)
    if carrier == "x-api-key":
        return (("x-api-key", token),)
    return (("Cookie", f"theme=dark; aidb_session={token}"), ("Origin", "http://127.0.0.1"))


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    head: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Court:
    """The gateway under test, a project with something in it, and everybody who may ask."""

    ground: Ground
    callers: dict[str, Caller] = field(default_factory=dict)
    project: str = ""
    project_id: UUID = field(default_factory=uuid4)
    stranger: Caller = field(default_factory=lambda: Caller("nobody", None))

    @property
    def port(self) -> int:
        return self.ground.port

    async def ask(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        length: int | None = None,
        host: str | None = "127.0.0.1",
    ) -> Answer:
        """One request on a connection of its own, exactly as given; no answer is status 0."""
        declared = len(body) if length is None else length
        own = (("Host", host),) if host is not None else ()
        fields = (*own, *headers, ("Content-Length", str(declared)), ("Connection", "close"))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return await self.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)

    async def send(self, request: bytes) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        try:
            async with asyncio.timeout(ANSWER_S):
                writer.write(request)
                answer = await reader.read()
        except (TimeoutError, OSError):
            pass
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1] if head.startswith(b"HTTP/") else b"0"
        return Answer(int(status), body, head)

    async def json(self, caller: Caller, method: str, target: str, body: Any = None) -> Answer:
        headers = (*caller.headers(), ("Content-Type", "application/json"))
        return await self.ask(method, target, headers, b"" if body is None else orjson.dumps(body))


@asynccontextmanager
async def court(trial: Trial, **variables: str) -> AsyncIterator[Court]:
    """A gateway that wants to know who asks, of a faulty build where one is planted."""
    port = free_port()
    given = {"AI_STACK_PORT": str(port), "AI_STACK_AUTH": "required", **variables}
    process = await asyncio.to_thread(faulty, trial.ground, trial.plant or "none", "serve", **given)
    try:
        await answers(port, process)
        ground = replace(trial.ground, beside=process, beside_port=port)
        made = Court(ground)
        await asyncio.to_thread(_summon, made)
        yield made
    finally:
        await asyncio.to_thread(end, process)


def admin_url(ground: Ground) -> str:
    return parts.addresses(ground.settings)["AI_STACK_DATABASE_ADMIN_URL"]


def operator(ground: Ground) -> Caller:
    proof = operator_token(open_secrets(ground.settings.secrets).operator)
    return Caller("the operator", proof, scopes=EVERY_SCOPE)


@dataclass
class Scribe:
    """Writes projects, users and keys where the gateway reads them."""

    connection: psycopg.Connection[Any]
    pepper: bytes

    def project(self, name: str, state: str = "active") -> UUID:
        id = uuid4()
        self.connection.execute(
            "INSERT INTO aidb.projects (id, name, state) VALUES (%s, %s, %s)", (id, name, state)
        )
        return id

    def user(self, name: str, project: UUID, role: str | None, state: str = "active") -> UUID:
        id = uuid4()
        self.connection.execute(
            "INSERT INTO control.users (id, name, state) VALUES (%s, %s, %s)", (id, name, state)
        )
        if role is not None:
            self.connection.execute(
                "INSERT INTO control.members VALUES (%s, %s, %s)", (project, id, role)
            )
        return id

    def key(
        self,
        projects: tuple[UUID, ...],
        scopes: frozenset[Scope] = EVERY_SCOPE,
        *,
        user: UUID | None = None,
        expires: timedelta | None = None,
        revoked: bool = False,
    ) -> str:
        id, token = new_key()
        now = datetime.now(UTC)
        self.connection.execute(
            "INSERT INTO control.keys (id, root, secret, name, user_id, scopes, created_by,"
            " expires_at, revoked_at)"
            " VALUES (%s, %s, %s, 'made by a test', %s, %s, 'test', %s, %s)",
            (
                *(id, id, hidden(token, self.pepper), user, [*scopes]),
                *(now + expires if expires else None, now if revoked else None),
            ),
        )
        for project in projects:
            self.connection.execute(
                "INSERT INTO control.key_projects VALUES (%s, %s)", (id, project)
            )
        return token


def _summon(made: Court) -> None:
    """Everybody who may ask, each with what is due."""
    mark = secrets.token_hex(4)
    pepper = open_secrets(made.ground.settings.secrets).pepper
    with psycopg.connect(admin_url(made.ground), autocommit=True) as connection:
        write = Scribe(connection, pepper)
        made.project = f"court {mark}"
        made.project_id = write.project(made.project)
        for caller in (*_good(write, made, mark), *_no_good(write, made, mark)):
            made.callers[caller.name] = caller
        rights = EVERY_SCOPE - {Scope.OPERATE}
        elsewhere = write.key((write.project(f"elsewhere {mark}"),), rights)
        made.stranger = Caller("a stranger", elsewhere, scopes=rights)


def _good(write: Scribe, made: Court, mark: str) -> list[Caller]:
    here = (made.project_id,)
    single = [
        Caller(f"a key for {scope.value}", write.key(here, frozenset({scope})), None, {scope})
        for scope in Scope
    ]
    members = [(role, write.user(f"{role} {mark}", made.project_id, role)) for role in SCOPES_OF]
    roles = [
        Caller(f"a key of a {role}", write.key(here, user=user), None, SCOPES_OF[role])
        for role, user in members
    ]
    return [Caller("an admin's key", write.key(here), None, EVERY_SCOPE), *single, *roles]


def _no_good(write: Scribe, made: Court, mark: str) -> list[Caller]:
    here, other = (made.project_id,), write.project(f"other {mark}")
    closed = write.project(f"closed {mark}", "suspended")
    suspended = write.user(f"suspended {mark}", made.project_id, "owner", "suspended")
    gone = write.user(f"gone {mark}", made.project_id, None)
    strange = write.key((other,))
    return [
        Caller("nobody", None, 401),
        Caller("a key that nobody has", new_key()[1], 401),
        Caller("an empty token", "", 401),
        Caller("a key of a suspended user", write.key(here, user=suspended), 401),
        Caller("a key of who is no member any more", write.key(here, user=gone), 403),
        Caller("a key of a suspended project", write.key((closed,)), 403),
        Caller("an expired key", write.key(here, expires=timedelta(seconds=-1)), 401),
        Caller("a revoked key", write.key(here, revoked=True), 401),
        Caller("another project's key", strange, 403, project=str(made.project_id)),
        Caller("another project's key by name", strange, 403, project=made.project),
        Caller("a key and a project there is not", strange, 403, project="nowhere"),
        Caller("a key and no project", strange, 403, project=""),
    ]
