"""The MCP face's parts that need no gateway, or one that is played."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NotRequired

import httpx
import pytest
from typing_extensions import TypedDict

from ai_stack.cli.mcp import Bridge, encoded, headers
from ai_stack.errors import InvalidRequest
from ai_stack.mcp.failures import told
from ai_stack.mcp.manifests import parts_of, uri_of
from ai_stack.mcp.prompts import OWN
from ai_stack.mcp.resources import document_id, document_uri
from ai_stack.mcp.schemas import schema_of
from ai_stack.mcp.toolsets import ABOUT, PLAIN, toolsets

URL = "http://127.0.0.1:8091/mcp"
MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}


async def spoken(
    answer: Callable[[httpx.Request], Any], *messages: dict[str, Any] | str
) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []

    async def lines() -> AsyncIterator[bytes]:
        for message in messages:
            text = message if isinstance(message, str) else json.dumps(message)
            yield text.encode() + b"\n"
            await asyncio.sleep(0.02)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        await Bridge(URL, http, lambda line: said.append(json.loads(line))).serve(lines())
    return said


def request(method: str, id: int = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def result(asked: httpx.Request, **more: Any) -> httpx.Response:
    return httpx.Response(
        200, json={"jsonrpc": "2.0", "id": json.loads(asked.content)["id"], **more}
    )


async def test_the_bridge_tells_the_version_that_was_agreed_on() -> None:
    seen: list[str | None] = []

    def answer(asked: httpx.Request) -> httpx.Response:
        seen.append(asked.headers.get("mcp-protocol-version"))
        return result(asked, result={"protocolVersion": "2025-11-25"})

    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    said = await spoken(answer, request("initialize"), note, request("tools/list", 2))
    assert [one["id"] for one in said] == [1, 2]
    assert seen == [None, "2025-11-25"]


def test_a_request_of_the_newer_era_says_in_its_head_what_its_body_says() -> None:
    found = headers(request("tools/call", name="Grüße", _meta=MODERN), None)
    assert found["mcp-protocol-version"] == "2026-07-28"
    assert (found["mcp-method"], found["mcp-name"]) == ("tools/call", "=?base64?R3LDvMOfZQ==?=")
    assert "mcp-name" not in headers(request("tools/list", _meta=MODERN), None)
    assert encoded("plain name") == "plain name"
    assert encoded("=?base64?x?=") != "=?base64?x?="


async def test_events_are_passed_on_one_by_one() -> None:
    def answer(asked: httpx.Request) -> httpx.Response:
        progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
        ended = {"jsonrpc": "2.0", "id": 1, "result": {}}
        body = "".join(
            f"event: message\r\ndata: {json.dumps(m)}\r\n\r\n" for m in (progress, ended)
        )
        return httpx.Response(
            200, text=": ping\r\n\r\n" + body, headers={"content-type": "text/event-stream"}
        )

    said = await spoken(answer, request("tools/call", name="x"))
    assert [one.get("method", "result") for one in said] == ["notifications/progress", "result"]


async def test_what_is_cancelled_is_left_and_not_answered() -> None:
    left = asyncio.Event()

    async def answer(asked: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(30)
        finally:
            left.set()
        raise AssertionError

    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert await spoken(answer, request("tools/call", name="x"), cancel) == []
    assert left.is_set()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.ConnectError("refused"), "start it with `ai-stack up`"),
        (httpx.ReadError("cut"), "broke off"),
        (httpx.Response(421, json={"detail": "This gateway has another name."}), "another name"),
        (httpx.Response(200, text="<html>"), "not an AIDB gateway"),
    ],
)
async def test_a_gateway_that_fails_is_told_to_the_client(
    answer: Exception | httpx.Response, expected: str
) -> None:
    def played(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    (said,) = await spoken(played, request("tools/list", 7))
    assert said["id"] == 7
    assert expected in said["error"]["message"]


async def test_a_refusal_without_an_id_gets_that_of_its_request_and_noise_is_told() -> None:
    def answer(asked: httpx.Request) -> httpx.Response:
        fault = {"code": -32600, "message": "There is no such toolset."}
        return httpx.Response(404, json={"jsonrpc": "2.0", "id": None, "error": fault})

    said = await spoken(answer, "not json", "[]", request("tools/list", 3))
    assert [one["id"] for one in said] == [None, None, 3]
    assert [one["error"]["code"] for one in said] == [-32700, -32700, -32600]


class Shape(TypedDict):
    """Never seen."""

    name: str
    size: NotRequired[int | None]


def test_schemas_say_nothing_twice() -> None:
    assert schema_of(Shape) == {
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
        "required": ["name"],
    }


def test_every_toolset_is_told_of() -> None:
    assert toolsets().keys() == ABOUT.keys()


def test_names_of_resources_come_back_as_they_were() -> None:
    for id in ("notes/a b", "ü", "100%", "a?b#c", "../x"):
        assert document_id(document_uri(id)) == id
        assert "/" not in document_uri(id).removeprefix("aidb://documents/")
    assert parts_of(uri_of("a-skill", "references/more ü.md")) == (
        "a-skill",
        "references/more ü.md",
    )
    assert parts_of("skill://a-skill") == ("a-skill", "")


def test_a_failure_names_a_few_fields() -> None:
    error = InvalidRequest("Wrong.", fields={f"f{n}": "missing" for n in range(20)})
    assert told(error).splitlines()[:2] == ["Wrong.", "f0: missing"]
    assert len(told(error).splitlines()) == 9


def test_the_guide_tells_of_every_tool_prompt_and_toolset() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/mcp.md").read_text()
    wanted = [*(str(tool.shown["name"]) for tool in PLAIN[""]), *OWN]
    wanted += [f"/mcp/{name}" if name else "/mcp" for name in ABOUT]
    assert [name for name in wanted if f"`{name}`" not in guide] == []
