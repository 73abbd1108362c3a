"""Scaffolded servers start over stdio, list their tools, and do what they are called for."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed, SkillResult
from ai_stack.skill.discovery import OURS
from skills import run

SKILL = "mcp-builder"
SHOP = OURS / SKILL / "examples/shop.yaml"
GREET = {
    "name": "greet",
    "description": "Greets somebody.",
    "parameters": {
        "type": "object",
        "properties": {"who": {"type": "string", "minLength": 1}},
        "required": ["who"],
    },
}


async def shop(folder: Path, /, **arguments: Any) -> SkillResult:
    arguments = {"name": "shop", "document": str(SHOP), **arguments}
    return await run(SKILL, folder, action="from_openapi", **arguments)


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SkillResult]:
    """The shop's server, made once: the folder with its archive, and what was told."""
    folder = tmp_path_factory.mktemp("shop")
    return folder, await shop(folder)


async def tools(folder: Path, *specs: dict[str, Any], **arguments: Any) -> SkillResult:
    return await run(SKILL, folder, action="from_tools", name="own", tools=specs, **arguments)


@asynccontextmanager
async def started(folder: Path, package: str, **environment: str) -> AsyncIterator[Client]:
    """A client of the scaffold, which runs as its user would run it."""
    with zipfile.ZipFile(next((folder / "out").glob("*.zip"))) as archive:
        archive.extractall(folder / "project")
    source = next((folder / "project").glob("*/src"))
    paths = os.pathsep.join([str(source), *filter(None, sys.path)])
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", package], env={"PYTHONPATH": paths, **environment}
    )
    with (folder / "log").open("w") as log:
        async with Client(stdio_client(parameters, errlog=log)) as client:
            yield client


class Api(BaseHTTPRequestHandler):
    """An API that tells what it was asked."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        asked = {
            "method": self.command,
            "path": self.path,
            "key": self.headers.get("X-Api-Key"),
            "region": self.headers.get("X-Region"),
            "body": json.loads(self.rfile.read(length)) if length else None,
        }
        found = not self.path.endswith("/404")
        body = json.dumps(asked if found else {"error": "no such order"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test tells by its outcome."""


@pytest.fixture
def api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_an_api_becomes_tools_that_send_its_requests(
    made: tuple[Path, SkillResult], api: str
) -> None:
    async with started(made[0], "shop_mcp", SHOP_URL=api, SHOP_TOKEN="t0k") as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert [*listed] == ["getOrder", "cancelOrder", "listOrders", "createOrder"]
        hints = listed["cancelOrder"].annotations
        assert hints is not None and hints.destructive_hint and hints.idempotent_hint
        assert listed["getOrder"].annotations.read_only_hint  # type: ignore[union-attr]

        async def asked(tool: str, **arguments: Any) -> Any:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content
            return result.structured_content

        found = await asked("getOrder", id=7)
        assert found == {
            "method": "GET", "path": "/v1/orders/7", "key": "t0k", "region": None, "body": None,
        }  # fmt: skip
        found = await asked("listOrders", status="open", **{"X-Region": "eu"})
        assert (found["path"], found["region"]) == ("/v1/orders?status=open", "eu")
        order = {"items": [{"sku": "a", "count": None}], "note": "x"}
        assert (await asked("createOrder", **order))["body"] == order
        assert (await asked("cancelOrder", id=7))["method"] == "DELETE"


async def test_wrong_calls_and_refusals_are_told_to_the_model(
    made: tuple[Path, SkillResult], api: str
) -> None:
    async with started(made[0], "shop_mcp", SHOP_URL=api) as client:
        for tool, arguments, told in (
            ("getOrder", {"id": 0}, "id: 0 is less than the minimum"),
            ("getOrder", {}, "'id' is a required property"),
            ("getOrder", {"id": 1, "host": "x"}, "unexpected"),
            ("createOrder", {"items": [{"sku": "a", "count": 0}]}, "items.0.count"),
            ("getOrder", {"id": 404}, "The API answered 404"),
            ("nothing", {}, "There is no tool nothing"),
        ):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert told in result.content[0].text, result.content  # type: ignore[union-attr]


async def test_an_api_that_is_down_is_told_without_a_traceback(
    made: tuple[Path, SkillResult],
) -> None:
    async with started(made[0], "shop_mcp", SHOP_URL="http://127.0.0.1:9") as client:
        result = await client.call_tool("getOrder", {"id": 1})
        text = result.content[0].text  # type: ignore[union-attr]
        assert result.is_error and text == "The API could not be asked (ConnectError)."


async def test_path_arguments_cannot_leave_their_place(tmp_path: Path, api: str) -> None:
    spec = {
        "name": "file", "description": "A file.",
        "parameters": {"type": "object", "properties": {"n": {"type": "string"}},
                       "required": ["n"]},
        "request": {"path": "/files/{n}"},
    }  # fmt: skip
    await tools(tmp_path, spec, url=api)
    async with started(tmp_path, "own_mcp") as client:
        found = await client.call_tool("file", {"n": "../../a?b=c#d/é"})
        assert found.structured_content is not None
        assert found.structured_content["path"] == "/v1/files/..%2F..%2Fa%3Fb%3Dc%23d%2F%C3%A9"
        for hostile in ("..", ".", ""):
            assert (await client.call_tool("file", {"n": hostile})).is_error


async def test_own_tools_get_functions_to_write(tmp_path: Path) -> None:
    nasty = {**GREET, "name": "class", "description": "\"\"\"\nimport os; os._exit(1) \\ '''"}
    result = await tools(tmp_path, GREET, nasty, {**GREET, "name": "greet."})
    assert "greet, class" in result.notes[0]
    async with started(tmp_path, "own_mcp") as client:
        for name in ("greet", "class", "greet."):
            found = await client.call_tool(name, {"who": "Ada"})
            assert found.structured_content == {"given": {"who": "Ada"}}
        assert (await client.call_tool("greet", {"who": ""})).is_error


async def test_the_project_passes_its_own_test(
    made: tuple[Path, SkillResult], tmp_path: Path
) -> None:
    with zipfile.ZipFile(made[0] / "out/shop-mcp.zip") as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "shop-mcp", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "SHOP_TOKEN" in (tmp_path / "shop-mcp/README.md").read_text()


async def test_operations_are_chosen_and_what_is_left_out_is_told(
    made: tuple[Path, SkillResult], tmp_path: Path
) -> None:
    result = await shop(tmp_path, only=["createOrder", "GET /orders"])
    assert [t["name"] for t in result.output["tools"]] == ["listOrders", "createOrder"]
    item = result.output["tools"][1]["input_schema"]["$defs"]["Item"]
    assert item["properties"]["count"] == {"type": ["integer", "null"], "exclusiveMinimum": 0}
    assert made[1].notes == ("PUT /orders/{id}/photo was left out: its body is no JSON.",)


async def test_a_project_that_does_not_start_says_why(tmp_path: Path) -> None:
    package = tmp_path / "p/src/broken"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text("raise SystemExit('out of order')\n")
    with pytest.raises(SkillFailed, match="does not start: out of order"):
        await run(SKILL, tmp_path, action="probe", folder=str(tmp_path / "p"))
    with pytest.raises(SkillFailed, match="one package"):
        await run(SKILL, tmp_path, action="probe", folder=str(tmp_path / "out"))


HEAD = "openapi: 3.1.0\ninfo: {title: X, version: '1'}\n"
LOOP = "paths: {/a: {get: {parameters: [{$ref: '#/components/parameters/P'}]}}}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Give the document"),
        ("{", "neither JSON nor YAML"),
        ("a: [", "neither JSON nor YAML"),
        ("[" * 50_000, "nested deeper"),
        ("swagger: '2.0'\n", "convert"),
        ("hello", "no OpenAPI"),
        (HEAD + "paths: {}\n", "no operation fits"),
        (HEAD + "x: &a [1]\ny: *a\n", "aliases"),
        ("!!python/object/apply:os.system ['x']\n", "neither JSON nor YAML"),
        (HEAD + LOOP + "components: {parameters: {P: {$ref: '#/components/parameters/P'}}}\n",
         "circle"),
        (HEAD + LOOP, "not there"),
        (HEAD + "paths: {/a: {get: {parameters: [{$ref: 'http://x/y'}]}}}\n", "outside"),
        (HEAD + "paths: {/a: {get: {parameters: [{name: q, in: query, schema: {type: 7}}]}}}\n",
         "the schema is none, at properties.q.type"),
        (HEAD + "paths: {'/a/{id}': {get: {}}}\n", "the path's id"),
    ],
)  # fmt: skip
async def test_documents_that_are_none_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SkillFailed, match=told):
        await run(SKILL, tmp_path, action="from_openapi", name="x", text=text)
    assert not [*(tmp_path / "out").iterdir()]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"parameters": {"type": "string"}}, "schema of an object"),
        ({"parameters": {"properties": {"a": {"$ref": "http://x"}}}}, "outside of itself"),
        ({"parameters": {"properties": {"a": {"type": "nothing"}}}}, "the schema is none"),
        ({"request": {"path": "/a/{b}"}}, "must be a required parameter"),
    ],
)
async def test_specifications_that_cannot_be_are_refused(
    tmp_path: Path, spec: dict[str, Any], told: str
) -> None:
    with pytest.raises(SkillFailed, match=told):
        await tools(tmp_path, {**GREET, **spec})


async def test_names_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(SkillFailed, match="one name"):
        await tools(tmp_path, GREET, GREET)
    with pytest.raises(InvalidRequest, match="name"):
        await run(SKILL, tmp_path, action="from_tools", name="../x", tools=[GREET])
    with pytest.raises(InvalidRequest, match=r"tools\.0\.name"):
        await tools(tmp_path, {**GREET, "name": "a b"})
