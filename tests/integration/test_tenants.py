"""Two projects with keys of their own, through HTTP: neither sees, changes or guesses the other's.

And the wall behind the services: what the gateway's role can do without any filter.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import SecretStr

import servers
from ai_stack.database import Database
from ai_stack.errors import StackError
from ai_stack.models.principals import Principal
from ai_stack.services.agent.toolbox import Toolbox
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack
from gateways import worker
from scripted import ScriptedModel, says
from tenants import RIGHTS, Caller, Gateway, guarded

WORD = "coelacanth"
UNFILTERED = {"models", "sealing"}  # which of them are sealed; no content


@dataclass
class Things:
    """What one project has, by their ids."""

    document: str
    response: str
    session: str
    run: str
    given: str


@pytest.fixture(scope="module")
async def settings(
    memory_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    number = iter(range(1, 10_000))
    model = ScriptedModel(
        lambda messages: says(f"answer-{next(number)}: {messages[-1]['content']}")
    )
    with servers.redis() as redis:
        async with model.serving():
            yield memory_settings.model_copy(
                update={
                    "redis_url": SecretStr(f"unix://{redis.socket}"),
                    "engines": SecretStr(model.url),
                    "semantic_cache": 0.5,
                }
            )


@pytest.fixture(scope="module")
async def gate(settings: Settings) -> AsyncIterator[Gateway]:
    async with guarded(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def own(gate: Gateway) -> Caller:
    return await gate.tenant("own", (*RIGHTS, "manage"))


@pytest.fixture(scope="module")
async def other(gate: Gateway) -> Caller:
    return await gate.tenant("other", (*RIGHTS, "manage"))


@pytest.fixture(scope="module")
async def things(settings: Settings, own: Caller) -> Things:
    """Something of every kind, made over HTTP."""
    body = {"content": f"The {WORD} was found again.", "id": "fish", "metadata": {"of": WORD}}
    await own.told("POST", "/documents", body, headers={"Idempotency-Key": WORD})
    request = {"input": f"Tell of the {WORD}.", "store": True}
    response = await own.told("POST", "/v1/responses", request)
    session = await own.told("POST", "/sessions", {"system": f"You are a {WORD}."})
    await own.told("POST", f"/sessions/{session['id']}/messages", {"content": WORD})
    files = {"files": ("a.txt", WORD.encode())}
    given = await own.http.post("/skills/files", files=files, headers=own.headers)
    assert given.is_success, given.text
    async with open_stack(settings) as opened, worker(opened):
        skill = {"parameters": {"text": WORD}}
        run = await own.told("POST", "/skills/template-skill/execute", skill)
        assert run["status"] == "succeeded", run
    return Things(
        "fish",
        response["id"],
        session["id"],
        run["run_id"],
        given.json()["id"],
    )


def paths(things: Things) -> list[tuple[str, str, Any]]:
    return [
        ("GET", f"/documents/{things.document}", None),
        ("PATCH", f"/documents/{things.document}", {"content": "x"}),
        ("PUT", f"/documents/{things.document}", {"content": "x"}),
        ("DELETE", f"/documents/{things.document}", None),
        ("GET", f"/v1/responses/{things.response}", None),
        ("GET", f"/v1/responses/{things.response}/input_items", None),
        ("DELETE", f"/v1/responses/{things.response}", None),
        ("POST", "/v1/responses", {"input": "x", "previous_response_id": things.response}),
        ("GET", f"/sessions/{things.session}", None),
        ("POST", f"/sessions/{things.session}/messages", {"content": "x"}),
        ("DELETE", f"/sessions/{things.session}", None),
        ("GET", f"/runs/{things.run}", None),
        ("GET", f"/runs/{things.run}/events", None),
        ("GET", f"/runs/{things.run}/files", None),
        ("GET", f"/runs/{things.run}/artifacts", None),
        ("GET", f"/runs/{things.given}/artifacts", None),
        ("GET", f"/runs/{things.given}/artifacts/a.txt", None),
        ("DELETE", f"/runs/{things.run}", None),
        ("POST", f"/runs/{things.run}/retry", None),
        ("GET", f"/skills/runs/{things.run}", None),
        ("POST", f"/agent/runs/{things.run}/answer", {"approve": True}),
    ]


async def test_no_id_of_another_project_is_found(
    things: Things, own: Caller, other: Caller
) -> None:
    for method, path, body in paths(things):
        answer = await other.ask(method, path, body)
        assert answer.status_code in (400, 404), (method, path, answer.status_code, answer.text)
        assert WORD not in answer.text
    for path in (f"/documents/{things.document}", f"/runs/{things.run}"):
        assert (await own.ask("GET", path)).status_code == 200
    assert (await own.ask("GET", f"/sessions/{things.session}")).status_code == 200
    assert (await own.ask("GET", f"/v1/responses/{things.response}")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/documents", f"/documents?search={WORD}", "/documents/export", "/runs", "/sessions"),
        *("/keys", "/audit", "/inference/usage", "/projects", "/auth/me"),
        f"/documents?filter={json.dumps({'of': WORD})}",
    ],
)
async def test_no_list_shows_what_is_another_projects(
    things: Things, own: Caller, other: Caller, path: str
) -> None:
    answer = await other.ask("GET", path)
    assert answer.is_success
    for foreign in (WORD, own.project, things.run, things.response, things.session):
        assert foreign not in answer.text


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
async def test_no_search_finds_what_is_another_projects(
    things: Things, own: Caller, other: Caller, mode: str
) -> None:
    """Also not when the other has just asked the very same, and the answer was kept."""
    query = {"query": f"The {WORD} was found again.", "mode": mode}
    assert (await own.told("POST", "/search/semantic", query))["results"]
    assert (await own.told("POST", "/search/semantic", query))["cached"]
    found = await other.told("POST", "/search/semantic", query)
    assert (found["results"], found["cached"]) == ([], False)
    changed = {"filter": {"of": WORD}, **query}
    assert (await other.told("POST", "/search/semantic", changed))["results"] == []


async def test_no_answer_is_shared_by_whatever_cache(own: Caller, other: Caller) -> None:
    def asked(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}], "temperature": 0}

    for path, body in (
        ("/v1/chat/completions", asked("What do the two of us share?")),
        ("/v1/chat/completions", asked("What do the both of us share?")),
        ("/v1/completions", {"prompt": "Once upon", "temperature": 0}),
        ("/inference/generate", {"prompt": "Once upon a time", "temperature": 0}),
    ):
        together = await asyncio.gather(*(who.ask("POST", path, body) for who in (own, other) * 2))
        again = [await who.ask("POST", path, body) for who in (own, other)]
        if all(a.is_success for a in together):
            mine, theirs = (
                {a.text.partition("answer-")[2].partition(":")[0] for a in answers}
                for answers in ((together[0], together[2], again[0]), (*together[1::2], again[1]))
            )
            assert not mine & theirs


async def test_no_key_of_a_repeated_request_meets_anothers(
    things: Things, own: Caller, other: Caller
) -> None:
    body = {"content": "mine alone", "id": "fish"}
    made = await other.ask("POST", "/documents", body, headers={"Idempotency-Key": WORD})
    assert made.status_code == 201
    assert made.json()["content"] == "mine alone"
    assert (await own.told("GET", "/documents/fish"))["content"] != "mine alone"
    await other.told("DELETE", "/documents/fish")
    assert WORD in (await own.told("GET", "/documents/fish"))["content"]


async def test_a_skill_reads_no_file_that_another_project_gave(
    settings: Settings, things: Things, own: Caller, other: Caller
) -> None:
    given = {"parameters": {"action": "profile", "files": [f"run:{things.given}/a.txt"]}}
    async with open_stack(settings) as opened, worker(opened):
        answers = [
            await who.ask("POST", "/skills/data-analysis/execute", given) for who in (other, own)
        ]
    told = [answer.json().get("error") or answer.json().get("detail") for answer in answers]
    assert "no file" in told[0] or "no run" in told[0], told
    assert told[0] != told[1]


async def test_mcp_shows_nothing_of_another_project(
    things: Things, own: Caller, other: Caller
) -> None:
    uri = "aidb://documents/fish"
    artifact = f"aidb://runs/{things.given}/artifacts/a.txt"
    assert WORD in (await own.mcp("resources/read", uri=artifact)).text
    assert WORD in (await own.mcp("resources/read", uri=uri)).text
    for method, params in (
        ("resources/read", {"uri": uri}),
        ("resources/read", {"uri": artifact}),
        ("resources/list", {}),
        ("tools/call", {"name": "search", "arguments": {"query": WORD}}),
        ("tools/call", {"name": "list_documents", "arguments": {}}),
        ("tools/call", {"name": "read_document", "arguments": {"id": "fish"}}),
        ("tools/call", {"name": "delete_document", "arguments": {"id": "fish"}}),
        ("tools/call", {"name": "run_status", "arguments": {"run_id": things.run}}),
        ("tools/call", {"name": "cancel_run", "arguments": {"run_id": things.run}}),
    ):
        answer = await other.mcp(method, **params)
        assert answer.status_code == 200, answer.text
        assert f"The {WORD}" not in answer.text, (method, params)
    assert WORD in (await own.mcp("resources/read", uri=uri)).text


async def test_a_key_works_in_no_project_but_its_own(own: Caller, other: Caller) -> None:
    for named in (own.project, "own", str(uuid4()), "default", ""):
        answer = await other.ask("GET", "/documents", headers={"X-Project": named})
        assert answer.status_code == 403
    body = {"name": "x", "scopes": ["read"], "projects": [own.project]}
    assert (await other.ask("POST", "/keys", body)).status_code == 404


async def test_the_tools_of_servers_that_one_project_was_refused_are_not_anothers(
    stack: Stack,
) -> None:
    """What is remembered for a while is remembered for the project that asked."""
    asked: list[UUID] = []

    class Skills:
        async def execute(self, principal: Principal, *_: object) -> Any:
            asked.append(principal.project_id)
            if len(asked) == 1:
                raise StackError("refused")
            servers = [{"name": "s", "tools": [{"name": "t"}]}]
            return SimpleNamespace(output={"output": {"servers": servers}}, error=None)

    toolbox = Toolbox(stack.search, stack.documents, Skills())  # type: ignore[arg-type]
    one, two = Principal(uuid4()), Principal(uuid4())
    assert await toolbox._of_servers(one) == {}
    assert await toolbox._of_servers(one) == {}
    assert [*await toolbox._of_servers(two)] == ["mcp__s__t"]
    assert asked == [one.project_id, two.project_id]


async def test_statements_without_a_filter_show_one_project_or_none(
    database: Database, own: Caller, other: Caller, things: Things, database_url: str
) -> None:
    """A service that forgets its filter leaks nothing: the views filter, whatever is asked."""
    with psycopg.connect(database_url) as owner:
        sql = "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        views = [r[0] for r in owner.execute(f"{sql} WHERE nspname = 'tenant' AND relkind = 'v'")]
        seen = {v: _rows(owner, _behind(v)) for v in views if v not in UNFILTERED}
    assert {v for v, rows in seen.items() if rows} >= {"documents", "chunks", "runs", "responses"}
    for project in (own.project, other.project, None):
        for view in seen:
            async with database.transaction(None if project is None else UUID(project)) as tx:
                if view == "data_keys":  # it shows no project
                    assert await tx.rows(f"SELECT id FROM {view}") == []
                    continue
                ids = {str(r[0]) for r in await tx.rows(f"SELECT project_id FROM {view}")}
            assert ids <= {project}, view
    async with database.transaction(uuid4()) as tx:
        done = await tx.execute("UPDATE documents SET content = 'taken'")
        gone = await tx.execute("DELETE FROM runs")
    assert (done.rowcount, gone.rowcount) == (0, 0)
    with pytest.raises(StackError):
        async with database.transaction(UUID(other.project)) as tx:
            await tx.execute(
                "INSERT INTO documents (id, project_id, content) VALUES (%(id)s, %(own)s, 'x')",
                {"id": uuid4(), "own": own.project},
            )


def _behind(view: str) -> str:
    return f"control.{view}" if view == "data_keys" else f"aidb.{view}"


def _rows(owner: psycopg.Connection[Any], table: str) -> int:
    row = owner.execute(f"SELECT count(*) FROM {table}").fetchone()
    return row[0] if row else 0


RELATIONS = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname IN ('aidb', 'control') AND relkind IN ('r', 'p', 'v', 'm', 'f')
AND (has_table_privilege(%(role)s, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES')
     OR has_any_column_privilege(%(role)s, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))"""


def test_the_gateways_role_has_no_right_on_any_table(database_url: str) -> None:
    """But that it adds to the log of inferences, of which it reads nothing there."""
    with psycopg.connect(database_url) as owner:
        found = owner.execute(RELATIONS, {"role": "aidb_gateway"}).fetchall()
        assert found == [("aidb.inference_log",)]
        for right in ("SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"):
            asked = ("aidb_gateway", found[0][0], right)
            assert owner.execute("SELECT has_table_privilege(%s, %s, %s)", asked).fetchone() == (
                False,
            )
        tables = owner.execute(RELATIONS, {"role": owner.info.user}).fetchall()
    assert len(tables) > 25


def test_the_controlling_role_reads_no_tenants_table_but_the_list_of_projects(
    database_url: str,
) -> None:
    with psycopg.connect(database_url) as owner:
        found = {row[0] for row in owner.execute(RELATIONS, {"role": "aidb_control"})}
        views = owner.execute(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'tenant' AND relkind = 'v'"
            " AND has_table_privilege('aidb_control', c.oid, 'SELECT, INSERT, UPDATE, DELETE')"
        ).fetchall()
        erasing = owner.execute(
            "SELECT has_function_privilege('aidb_control', 'tenant.erase(text, int)', 'EXECUTE')"
        ).fetchone()
    tables = {name for name in found if name.startswith("aidb.")}
    assert tables == {"aidb.projects", "aidb.sealing"}  # which projects there are, and are sealed
    assert (views, erasing) == ([], (False,))


async def test_the_controlling_role_is_refused_by_the_server_itself(database: Database) -> None:
    for table in ("aidb.documents", "tenant.documents", "aidb.runs", "aidb.inference_log"):
        with pytest.raises(StackError):
            async with database.control() as tx:
                await tx.rows(f"SELECT * FROM {table}")


async def test_an_open_project_is_not_erased(database: Database, own: Caller) -> None:
    for project in (UUID(own.project), None):
        with pytest.raises(StackError):
            async with database.transaction(project) as tx:
                await tx.rows("SELECT tenant.erase('aidb.documents', 10)")
    with pytest.raises(StackError):
        async with database.transaction(uuid4()) as tx:
            await tx.rows("SELECT tenant.erase('control.users', 10)")
