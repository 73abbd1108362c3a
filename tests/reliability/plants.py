"""Faulty builds of the product: each plant replaces one piece of it, then runs it as usual.

python tests/reliability/plants.py PLANT serve|worker|vectors|skill|tenants|injections ARGUMENTS…
"""
# ruff: noqa: PLC0415, BLE001 (each plant imports what it breaks, and only that)

import asyncio
import runpy
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PLANTS: dict[str, Callable[[], None]] = {}


def plant(function: Callable[[], None]) -> Callable[[], None]:
    PLANTS[function.__name__.replace("_", "-")] = function
    return function


def replace(owner: object, name: str, piece: object) -> None:
    """A plant that replaces nothing would leave the product sound: the piece must be there."""
    getattr(owner, name)
    setattr(owner, name, piece)


@plant
def early_acknowledgement() -> None:
    """Documents are acknowledged before COMMIT, which follows a moment later."""
    from ai_stack.database import documents as rows
    from ai_stack.services.documents import Documents, Written

    commits: set[asyncio.Task[None]] = set()

    async def add(self: Any, principal: Any, new: Sequence[Any], **_: object) -> Written:
        unit = self.database.transaction(principal.project_id)
        tx = await unit.__aenter__()
        ids = [tx.new_id() for _ in new]
        await rows.insert(tx, [*zip(ids, new, strict=True)])
        await rows.mark_dirty(tx, ids)
        found = await rows.fetch(tx, ids)
        commits.add(task := asyncio.create_task(_commit_later(unit)))
        task.add_done_callback(commits.discard)
        return Written(found, False)

    replace(Documents, "add", add)


async def _commit_later(unit: Any) -> None:
    await asyncio.sleep(0.1)
    try:
        await unit.__aexit__(None, None, None)
    except Exception as error:
        print("lost:", error, flush=True)


@plant
def forgotten_key() -> None:
    """The Idempotency-Key is read and forgotten."""
    from ai_stack.services.documents import Documents

    original = Documents.add

    async def add(
        self: Any, *arguments: Any, idempotency_key: object = None, **options: Any
    ) -> Any:
        return await original(self, *arguments, **options)

    replace(Documents, "add", add)


@plant
def early_forgetting() -> None:
    """A change is forgotten before the index is written."""
    from ai_stack.database import changes
    from ai_stack.services.arrivals import Arrivals
    from ai_stack.services.indexing import Indexing

    original, published = Indexing._follow, Arrivals.publish

    async def follow(self: Any, project_id: Any, leases: Any) -> None:
        async with self.database.transaction(project_id) as tx:
            await changes.finish(tx, leases)
        await original(self, project_id, leases)

    async def publish(self: Any, arrived: Any) -> bool:
        async with self.indexing.database.transaction(arrived.leases[0].project_id) as tx:
            await changes.finish(tx, arrived.leases)
        await published(self, arrived)
        return True

    replace(Indexing, "_follow", follow)
    replace(Arrivals, "publish", publish)


@plant
def silent_degrading() -> None:
    """A search without the vector engine answers by words and does not say so."""
    from ai_stack.models import answers
    from ai_stack.rest import search

    def shown(answer: Any) -> dict[str, object]:
        return {k: v for k, v in answers.search_json(answer).items() if k != "degraded"}

    replace(search, "search_json", shown)


@plant
def unscoped_vectors() -> None:
    """The vector engine's filter forgets the project."""
    from ai_stack.vectors import edge_child

    replace(edge_child, "_scoped", lambda header: {"must": [*header["must"]]})


@plant
def sticky_project() -> None:
    """The project is set once for a pooled connection, which saves a step and leaks."""
    from ai_stack import database

    sticky = (
        "SELECT set_config('app.project',"
        " coalesce(nullif(current_setting('app.project', true), ''), %(project)s), false)"
    )
    replace(database, "SET_PROJECT", sticky)
    replace(database, "KEEP_PROJECT", sticky)


@plant
def unbounded_bodies() -> None:
    """Bodies are read whatever their size and what they unfold to."""
    from ai_stack.rest import requests
    from ai_stack.rest.gate import Body

    async def unweighed(body: bytes) -> None: ...

    replace(Body, "receive", property(lambda self: self._receive))
    replace(requests, "check_weight", unweighed)


@plant
def opaque_disk_full() -> None:
    """A full disk is an unexpected failure."""
    from ai_stack import database
    from ai_stack.errors import StackError, StorageFull

    original = database._translation

    def translation(error: BaseException | None) -> Exception:
        found = original(error)
        return StackError() if isinstance(found, StorageFull) else found

    replace(database, "_translation", translation)


@plant
def skipping_reindex() -> None:
    """A rebuild of the index leaves out the last document of every page."""
    from ai_stack.services.indexing import Indexing

    original = Indexing.publish

    async def publish(self: Any, project_id: Any, model: Any, ids: Any) -> None:
        await original(self, project_id, model, ids[:-1])

    replace(Indexing, "publish", publish)


@plant
def false_end() -> None:
    """A stream that broke off ends as if it were whole."""
    from ai_stack.rest.openai.reply import Reply

    original = Reply.fail

    async def fail(self: Any, error: Any) -> None:
        if not self._begun:
            await original(self, error)
            return
        last = b"data: [DONE]\n\n"
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    replace(Reply, "fail", fail)


@plant
def no_failover() -> None:
    """A call that failed at one engine is not brought to another."""
    from ai_stack.errors import EngineUnavailable
    from ai_stack.services.inference.routing import Router

    original = Router._choice

    def choice(self: Any, pool: Any, blocks: Any, tried: Any) -> Any:
        if tried:
            raise EngineUnavailable
        return original(self, pool, blocks, tried)

    replace(Router, "_choice", choice)


@plant
def trusting_relay() -> None:
    """Streams pass as they come, whatever they are."""
    from ai_stack.services.inference.events import Stream

    replace(Stream, "feed", lambda self, data: data)
    replace(Stream, "end", lambda self: None)


@plant
def hasty_end() -> None:
    """A stop waits two seconds, whatever is under way."""
    from ai_stack import server

    original = server._config

    def config(settings: Any, *rest: Any) -> Any:
        return original(settings.model_copy(update={"shutdown_grace_s": 2}), *rest)

    replace(server, "_config", config)


@plant
def endless_inference() -> None:
    """An inference has no deadline."""
    from ai_stack.services.inference.relay import Relay

    replace(Relay, "expire", lambda self: None)


@plant
def loose_types() -> None:
    """Models are listed with their times as texts, which no client complains of by itself."""
    from ai_stack.rest.openai import models

    original = models.model_json
    replace(models, "model_json", lambda model: {**original(model), "created": "lately"})


@plant
def forgotten_usage() -> None:
    """Usage is left out of streams, also where the client asked for it."""
    from ai_stack.services.inference.events import Stream

    original = Stream.__init__

    def init(self: Any, keeps_usage: bool, *arguments: Any, **options: Any) -> None:
        original(self, False, *arguments, **options)

    replace(Stream, "__init__", init)


@plant
def patient_cache() -> None:
    """The cache is waited for as long as it takes."""
    from ai_stack.caches import pipeline

    replace(pipeline, "TIMEOUT_S", 60.0)


@plant
def open_wall() -> None:
    """A skill's process gives nothing up before it runs the skill."""
    from ai_stack.sandbox import kernel

    replace(kernel, "enter", lambda confinement: True)


@plant
def trusting_agent() -> None:
    """The agent calls whatever the model wants."""
    from ai_stack.services.agent.loop import Loop

    replace(Loop, "_approved", lambda self, id, tool, given: None)


@plant
def none() -> None:
    """No defect: the same way of starting with the sound build."""


@plant
def empty_resources() -> None:
    """A resource that is not there is an empty answer, and no error."""
    from ai_stack.mcp import protocol

    async def read(context: Any, params: Any) -> dict[str, Any]:
        return {"contents": []}

    kind, _ = protocol.HANDLERS["resources/read"]
    protocol.HANDLERS["resources/read"] = kind, read


@plant
def lax_skills() -> None:
    """A manifest forgets one of the skill's files."""
    from ai_stack.mcp import manifests

    original = manifests.entry

    def entry(*arguments: Any) -> dict[str, Any]:
        found = original(*arguments)
        return {**found, "resources": found["resources"][1:]}

    replace(manifests, "entry", entry)


@plant
def hoarding() -> None:
    """The gateway keeps something of every request."""
    from ai_stack.rest.gate import Gate

    original, kept = Gate.__call__, list[bytes]()

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        kept.append(bytes(64 << 10))
        await original(self, scope, receive, send)

    replace(Gate, "__call__", call)


@plant
def chatty_log() -> None:
    """A login is logged with its password."""
    import logging

    from ai_stack.services.auth.passwords import Passwords

    original = Passwords.login

    async def login(self: Any, name: str, password: str, *more: Any) -> Any:
        logging.getLogger("ai_stack").warning("%s logs in with %s", name, password)
        return await original(self, name, password, *more)

    replace(Passwords, "login", login)


@plant
def plain_keys() -> None:
    """Keys are kept as they are."""
    from ai_stack.services.auth import identity, keys

    replace(keys, "hidden", lambda token, pepper: token.encode())
    replace(identity.tokens, "hidden", lambda token, pepper: token.encode())


@plant
def ten_bugs() -> None:
    """Ten requests of TEN_BUGS fail as a handler does that has not thought of them."""
    from ai_stack import server
    from reliability.bugs import Bugs

    original = server.create_app
    replace(server, "create_app", lambda *given, **named: Bugs(original(*given, **named)))


@plant
def skipping_table() -> None:
    """A backup leaves out the rows of one table."""
    from ai_stack.supervisor import programs

    original = programs._running

    def running(program: Path, *arguments: str, **options: Any) -> Any:
        more = ("--exclude-table-data=aidb.document_keys",) if program.name == "pg_dump" else ()
        return original(program, *more, *arguments, **options)

    replace(programs, "_running", running)


@plant
def unchecked_backup() -> None:
    """A restore looks at no digest."""
    from ai_stack.services.backup import bundle

    original = bundle.Reader.entries

    def entries(self: Any) -> Any:
        with suppress(bundle.Damaged):
            yield from original(self)

    def check_bytes(path: Path, told: object = None) -> Any:
        return bundle.read_header(path)

    replace(bundle.Reader, "entries", entries)
    replace(bundle, "check_bytes", check_bytes)


def main() -> None:
    sys.path[:0] = [str(Path(__file__).parents[1])]
    from reliability.trust_plants import TRUST_PLANTS

    name, target, *arguments = sys.argv[1:]
    {**PLANTS, **TRUST_PLANTS}[name]()
    sys.argv = [target, *arguments]
    if target == "vectors":
        from ai_stack.vectors import edge_child

        edge_child.main()
    elif target == "skill":
        from ai_stack.skill import child

        child.main()
    elif target == "conformance":
        runpy.run_path(str(Path(__file__).with_name("conformance.py")), run_name="__main__")
    elif target in ("tenants", "injections", "requests_elsewhere"):
        runpy.run_path(str(Path(__file__).with_name(f"{target}.py")), run_name="__main__")
    else:
        sys.argv = ["ai-stack", target, *arguments]
        from ai_stack.cli import main as command

        command()


if __name__ == "__main__":
    main()
