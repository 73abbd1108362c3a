"""The MCP face over a real gateway, asked by the SDK's own client in both eras of the protocol."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

import mcp_fixtures as fixtures
from ai_stack.database import job_worker
from ai_stack.mcp import Mcp, subscriptions
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal
from ai_stack.rest.requests import caller_of
from ai_stack.rest.weight import check_weight
from ai_stack.services.skills import QUEUE
from ai_stack.settings import Settings
from ai_stack.stack import Stack
from gateways import gateway

LEGACY, MODERN = "legacy", "2026-07-28"
ERAS = (LEGACY, MODERN)
MOST_TOOLS, MOST_CHARACTERS = 15, 16_000
NOTE = "Old copies are kept for thirty days."


@pytest.fixture(scope="module")
async def http(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    face = Mcp(caller_of, check_weight, fixtures.with_fixtures)
    async with gateway(memory_settings, face) as client:
        yield client


@pytest.fixture(scope="module")
async def plain(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway as it is shipped."""
    async with gateway(memory_settings) as client:
        yield client


@pytest.fixture(scope="module")
async def note(stack: Stack) -> str:
    new = NewDocument(NOTE, {"title": "Copies", "team": "storage"}, "notes/copies")
    await stack.documents.add(Principal(), [new])
    return "notes/copies"


def connected(http: httpx.AsyncClient, era: str, path: str = "/mcp") -> Client:
    return Client(str(http.base_url).rstrip("/") + path, mode=era)


async def called(client: Client, name: str, /, **arguments: Any) -> dict[str, Any]:
    found = await client.call_tool(name, arguments)
    assert isinstance(found, CallToolResult)
    assert not found.is_error, found.content
    assert found.structured_content is not None
    return found.structured_content


async def failed(client: Client, name: str, /, **arguments: Any) -> str:
    found = await client.call_tool(name, arguments)
    assert isinstance(found, CallToolResult) and found.is_error
    return found.content[0].text


@pytest.mark.parametrize("era", ERAS)
async def test_few_tools_each_of_which_says_what_it_does(
    plain: httpx.AsyncClient, era: str
) -> None:
    async with connected(plain, era) as client:
        tools = (await client.list_tools()).tools
    assert len(tools) <= MOST_TOOLS
    assert sum(len(tool.model_dump_json(exclude_none=True)) for tool in tools) < MOST_CHARACTERS
    for tool in tools:
        assert tool.title and tool.description and tool.annotations and tool.output_schema
        assert tool.annotations.read_only_hint is not None
        jsonschema_rs.meta.validate(tool.input_schema)
    acting = {tool.name for tool in tools if not tool.annotations.read_only_hint}
    assert acting == {
        *("add_documents", "update_document", "delete_document"),
        *("run_skill", "cancel_run"),
    }


@pytest.mark.parametrize("era", ERAS)
async def test_documents_from_their_making_to_their_end(plain: httpx.AsyncClient, era: str) -> None:
    id = f"mcp/{era} ü"
    async with connected(plain, era) as client:
        new = {"content": "Invoices are paid on Fridays.", "id": id, "metadata": {"a": 1}}
        added = await called(client, "add_documents", documents=[new])
        assert added["searchable"] and added["items"][0]["id"] == id
        found = await called(client, "search", query="When are invoices paid?", filter={"a": 1})
        assert id in [one["id"] for one in found["results"]]
        assert "exists" in await failed(client, "add_documents", documents=[new])
        await called(client, "update_document", id=id, metadata={"a": None, "b": 2})
        read = await called(client, "read_document", id=id, length=8)
        assert (read["content"], read["next_start"]) == ("Invoices", 8)
        assert read["metadata"] == {"b": 2}
        listed = await called(client, "list_documents", search="invoices")
        assert [one["id"] for one in listed["items"]] == [id]
        assert await called(client, "delete_document", id=id) == {"deleted": id}
        assert "no document" in await failed(client, "read_document", id=id)


async def test_every_answer_is_what_its_schema_says(plain: httpx.AsyncClient, note: str) -> None:
    asked = {
        "search": {"query": "copies"},
        "read_document": {"id": note},
        "list_documents": {},
        "add_documents": {"documents": [{"content": "x", "id": "y"}]},
        "update_document": {"id": "y", "content": "z"},
        "delete_document": {"id": "y"},
        "generate": {"prompt": "Say it", "documents": True},
        "list_models": {},
        "find_skills": {"query": "review code"},
        "show_skill": {"name": "template-skill"},
        "health": {},
    }
    async with connected(plain, MODERN) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        for name, arguments in asked.items():
            answer = await called(client, name, **arguments)
            jsonschema_rs.validate(tools[name].output_schema, answer)
    assert tools.keys() - asked.keys() == {"run_skill", "run_status", "cancel_run"}


async def test_the_faces_answer_alike(plain: httpx.AsyncClient, note: str) -> None:
    rest = await plain.post("/search/semantic", json={"query": "old copies", "limit": 5})
    async with connected(plain, MODERN) as client:
        mine = await called(client, "search", query="old copies", limit=5)
    theirs = [(one["document"]["id"], one["score"]) for one in rest.json()["results"]]
    assert [(one["id"], one["score"]) for one in mine["results"]] == theirs


@pytest.mark.parametrize("era", ERAS)
async def test_a_wrong_argument_is_named_and_a_wrong_filter_told(
    plain: httpx.AsyncClient, era: str
) -> None:
    async with connected(plain, era) as client:
        assert "qury" in await failed(client, "search", qury="x")
        told = await failed(client, "search", query="x", filter={"a": {"near": 1}})
        assert "near" in told
        assert "'none' is not served" in await failed(client, "generate", prompt="x", model="none")


async def test_toolsets_lie_below_the_path(plain: httpx.AsyncClient) -> None:
    async with connected(plain, MODERN, "/mcp/read-only") as client:
        tools = (await client.list_tools()).tools
        assert tools and all(tool.annotations.read_only_hint for tool in tools)
        with pytest.raises(MCPError, match="no tool delete_document"):
            await client.call_tool("delete_document", {"id": "x"})
    async with connected(plain, MODERN, "/mcp/skills") as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"template-skill", "run_status", "cancel_run"} <= names
    lost = await plain.post("/mcp/nothing", json={})
    assert lost.status_code == 404
    assert "/mcp/documents" in lost.json()["error"]["message"]


async def test_resources_are_documents_and_skills(plain: httpx.AsyncClient, note: str) -> None:
    async with connected(plain, MODERN) as client:
        page = await client.list_resources()
        uris = {resource.uri for resource in page.resources}
        assert {"aidb://documents/notes%2Fcopies", "skill://template-skill/SKILL.md"} <= uris
        read = await client.read_resource("aidb://documents/notes%2Fcopies")
        assert read.contents[0].text == NOTE
        skill = await client.read_resource("skill://template-skill/SKILL.md")
        assert skill.contents[0].text.startswith("---\nname: template-skill")
        for lost in ("aidb://documents/none", "skill://none/SKILL.md", "file:///etc/passwd"):
            with pytest.raises(MCPError, match="no resource"):
                await client.read_resource(lost)
        with pytest.raises(MCPError, match="no resource"):
            await client.read_resource("skill://template-skill/../../errors.py")


async def test_a_long_list_of_resources_comes_in_pages(
    plain: httpx.AsyncClient, stack: Stack
) -> None:
    await stack.documents.add(Principal(), [NewDocument(f"Page {n}") for n in range(120)])
    async with connected(plain, MODERN) as client:
        seen, cursor = [], None
        while True:
            page = await client.list_resources(cursor=cursor)
            seen += [one.uri for one in page.resources]
            cursor = page.next_cursor
            if cursor is None:
                break
        with pytest.raises(MCPError, match="cursor"):
            await client.list_resources(cursor="nonsense")
    assert len(seen) == len(set(seen)) > 120


async def test_a_subscriber_hears_of_a_change(plain: httpx.AsyncClient, note: str) -> None:
    uri = "aidb://documents/notes%2Fcopies"
    async with (
        connected(plain, MODERN) as client,
        client.listen(resource_subscriptions=[uri]) as changes,
    ):
        await asyncio.sleep(2 * subscriptions.LOOK_S)
        change = {"metadata": {"seen": True}}
        assert (await plain.patch(f"/documents/{note}", json=change)).status_code == 200
        event = await asyncio.wait_for(anext(aiter(changes)), 20)
    assert event.uri == uri


async def test_a_server_that_ends_ends_its_subscriptions(memory_settings: Settings) -> None:
    async with AsyncExitStack() as exits:
        http = await exits.enter_async_context(gateway(memory_settings))
        async with connected(http, MODERN) as client, client.listen(resources_list_changed=True):
            await asyncio.wait_for(exits.aclose(), 10)


@pytest.mark.parametrize("era", ERAS)
async def test_prompts_are_filled_in(plain: httpx.AsyncClient, note: str, era: str) -> None:
    async with connected(plain, era) as client:
        names = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert {"answer_from_documents", "summarize_document", "remember"} <= names
        asked = await client.get_prompt("answer_from_documents", {"question": "Why {this}?"})
        assert "Why {this}?" in asked.messages[0].content.text
        summary = await client.get_prompt("summarize_document", {"id": note})
        assert summary.messages[0].content.resource.text == NOTE
        with pytest.raises(MCPError, match="question: missing"):
            await client.get_prompt("answer_from_documents", {})


@pytest.mark.parametrize("era", ERAS)
async def test_progress_is_told_to_whoever_asks(plain: httpx.AsyncClient, era: str) -> None:
    told: list[float] = []

    async def hear(done: float, total: float | None, message: str | None) -> None:
        told.append(done)

    async with connected(plain, era) as client:
        await client.call_tool("generate", {"prompt": "one two"}, progress_callback=hear)
    assert told


@pytest.mark.parametrize("followed", [False, True])
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_a_client_that_leaves_cancels_its_call(
    http: httpx.AsyncClient, version: str, followed: bool
) -> None:
    meta: dict[str, Any] = {"progressToken": 1} if followed else {}
    if version == MODERN:
        meta["io.modelcontextprotocol/protocolVersion"] = version
        meta["io.modelcontextprotocol/clientCapabilities"] = {}
    call = {"name": "test_patience", "arguments": {}, "_meta": meta}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": version,
        "mcp-method": "tools/call",
        "mcp-name": "test_patience",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    fixtures.WAITING.clear()
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/mcp", json=body, headers=headers, timeout=0.7)
    async with asyncio.timeout(5):
        while fixtures.WAITING != ["begun", "left"]:
            await asyncio.sleep(0.02)


async def test_a_strange_host_or_origin_is_refused(plain: httpx.AsyncClient) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        refused = await plain.post("/mcp", json={}, headers=headers)
        assert refused.status_code == 421
    assert (await plain.get("/mcp")).status_code == 405
    bomb = b'{"a":[' + b"{}," * 700_000 + b"{}]}"
    assert (await plain.post("/mcp", content=bomb)).status_code == 413
    assert "x-request-id" in (await plain.get("/mcp")).headers


async def test_a_skill_runs_and_its_progress_is_told(
    plain: httpx.AsyncClient, stack: Stack
) -> None:
    asked = {"name": "template-skill", "parameters": {"action": "echo", "text": "hello"}}
    async with skills_done(stack), connected(plain, MODERN) as client:
        shown = await called(client, "show_skill", name="template-skill")
        assert shown["ready"] and shown["instructions"]
        run = await called(client, "run_skill", **asked)
        assert run["status"] == "succeeded", run
        assert "hello" in str(run["output"])
        made = {**asked["parameters"], "file": "told ü.txt"}
        files = (await called(client, "run_skill", name="template-skill", parameters=made))[
            "output"
        ]["artifacts"]
        read = await client.read_resource(files[0]["uri"])
        assert read.contents[0].text == "hello"
        with pytest.raises(MCPError, match="no resource"):
            await client.read_resource(files[0]["uri"] + "x")
        begun = await called(client, "run_skill", **asked, background=True)
        ended = await called(client, "run_status", run_id=begun["run_id"], wait_s=20)
        assert ended["status"] == "succeeded"
        wrong = {"name": "template-skill", "parameters": {"action": "none"}}
        assert "action" in await failed(client, "run_skill", **wrong)


@asynccontextmanager
async def skills_done(stack: Stack) -> AsyncIterator[None]:
    """What the worker does for skills."""
    work = job_worker.work(stack.database, stack.runs.execute, 2, QUEUE)
    task = asyncio.create_task(work)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("era", ERAS)
async def test_the_shell_speaks_it_on_standard_input(
    plain: httpx.AsyncClient, note: str, era: str, tmp_path: Path
) -> None:
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ai_stack", "mcp", "--toolset", "documents"],
        env={"AI_STACK_URL": str(plain.base_url), "HOME": str(tmp_path)},
    )
    async with Client(program, mode=era) as client, asyncio.timeout(30):
        assert "search" in {tool.name for tool in (await client.list_tools()).tools}
        found = await called(client, "search", query="old copies")
        assert note in [one["id"] for one in found["results"]]
        read = await client.read_resource("aidb://documents/notes%2Fcopies")
        assert read.contents[0].text == NOTE
