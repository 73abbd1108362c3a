"""Servers are found in the directory, live ones are probed, editors' files are read without
their secrets."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations

from ai_stack.skill import SkillFailed
from skills import run

SKILL = "all-mcp-directory"
TOKEN = "tok-3f9a2c71b0"


async def done(folder: Path, action: str, /, **arguments: Any) -> dict[str, Any]:
    result = await run(SKILL, folder, action=action, **arguments)
    return json.loads(json.dumps(dict(result.output)))


async def configured(folder: Path, name: str, content: str | object) -> dict[str, Any]:
    """What is read of one file."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    found = await done(folder, "configured", files=[str(file)])
    one: dict[str, Any] = found["files"][0]
    return one


# --- the directory


async def test_the_directory_is_whole(tmp_path: Path) -> None:
    found = await done(tmp_path, "search", limit=100)
    ids = [server["id"] for server in found["servers"]]
    assert len(ids) == found["of"] >= 40 and len(set(ids)) == len(ids)
    for id in ids:
        shown = await done(tmp_path, "show", id=id)
        entry = shown["entry"]["mcpServers"][id]
        assert ("url" in entry) == (shown["start"] == "url") != ("command" in entry)
        assert shown["start"] in ("url", entry.get("command")) and shown["does"].endswith(".")
        # what is shown is recognised where an editor has it
        read = await configured(tmp_path, "mcp.json", shown["entry"])
        twin = read["servers"][0]["in_directory"]
        assert twin == id or "postgres" in (id, twin), id


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("postgres index advice", "postgres"),
        ("issues on GitHub", "github"),
        ("nix packages", "nixos"),
        ("vectors search by meaning", "qdrant"),
        ("arxiv", "arxiv"),
    ],
)
async def test_search_finds_what_fits_first(tmp_path: Path, query: str, first: str) -> None:
    found = await done(tmp_path, "search", query=query)
    assert found["servers"][0]["id"] == first


async def test_search_by_start_and_for_nothing(tmp_path: Path) -> None:
    found = await done(tmp_path, "search", query="database", start="docker")
    assert {server["start"] for server in found["servers"]} == {"docker"}
    assert (await done(tmp_path, "search", query="zzzqqq"))["servers"] == []
    with pytest.raises(SkillFailed, match=r"has no 'postgress'\. Like it: postgres"):
        await done(tmp_path, "show", id="postgress")


# --- live servers


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A server of the SDK over streamable HTTP."""
    server = MCPServer("tracker")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def issues(word: str) -> list[str]:
        """Issues with a\u200b word."""
        return [word]

    @server.tool()
    async def who(context: Context[Any, Any]) -> str:
        """Who asks."""
        return str((context.headers or {}).get("authorization"))

    config = uvicorn.Config(server.streamable_http_app(), log_level="error", lifespan="on")
    serving = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        serving.should_exit = True
        thread.join()


async def test_a_live_server_is_probed(tmp_path: Path, web: str) -> None:
    found = await done(tmp_path, "probe", url=web)
    assert found["ready"] and found["server"] == "tracker" and found["protocol"] == "2026-07-28"
    assert found["count"] == 2
    issues, who = found["tools"]
    assert issues["name"] == "issues" and issues["description"] == "Issues with a word."
    assert issues["parameters"]["properties"]["word"]["type"] == "string"
    assert issues["read_only"] and not who["read_only"]


class Hostile(BaseHTTPRequestHandler):
    """Wants a key, else tells it on, and does worse by path."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers.get("Authorization")
        found: Any = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "serverInfo": {"name": f"I saw {key}", "version": "1"},
            },
            "tools/list": {
                "tools": [
                    {"name": "a", "description": str(key), "inputSchema": {"type": "object"}},
                    {"name": "b c", "inputSchema": {"type": "object"}},
                ],
                "nextCursor": "again",
            },
        }.get(asked["method"])
        answer = {"result": found} if found else {"error": {"code": -32601, "message": "no"}}
        body = json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), **answer}).encode()
        self.send_response(401 if not key else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.path == "/endless":
            self.endless()
        self.wfile.write(body)

    def endless(self) -> None:
        try:
            while True:
                self.wfile.write(b" " * (1 << 20))
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test tells by its outcome."""


@pytest.fixture
def hostile() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_configured_server_is_probed_with_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: str
) -> None:
    monkeypatch.setenv("AI_STACK_CONFIG_DIR", str(tmp_path))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    servers = {
        "tracker": {"url": f"{hostile}/mcp?key={TOKEN}", "headers": headers},
        "endless": {"url": f"{hostile}/endless", "headers": headers},
        "program": {"command": "touch", "args": [str(tmp_path / "started")]},
    }
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    found = await done(tmp_path, "probe", name="tracker")
    assert found["ready"] and found["protocol"] == "2025-06-18"
    assert [tool["name"] for tool in found["tools"]] == ["a", "a"]
    assert TOKEN not in json.dumps(found) and "•••" in found["server"]
    assert (await done(tmp_path, "probe", url=f"{hostile}/mcp"))["error"] == (
        "It answered with HTTP 401."
    )
    endless = await done(tmp_path, "probe", name="endless")
    assert endless["error"] in ("It sent more than 16 MiB.", "It answered with HTTP 401.")
    with pytest.raises(SkillFailed, match="is a program, which this skill may not start"):
        await done(tmp_path, "probe", name="program")
    with pytest.raises(SkillFailed, match="they name: tracker, endless, program"):
        await done(tmp_path, "probe", name="other")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.0.1/mcp",
        "http://example.com/mcp",
        "http://127.0.0.1.example.com/",
        "http://localhost@169.254.169.254/",
        "http://0x7f000001/",
        "http://[::ffff:10.0.0.1]/",
        "file:///etc/passwd",
        "http://[bad",
        "http://127.0.0.1:99999/",
    ],
)
async def test_only_this_machine_is_probed_by_url(tmp_path: Path, url: str) -> None:
    with pytest.raises(SkillFailed, match=r"Only addresses of this machine|must be one of http"):
        await done(tmp_path, "probe", url=url)


async def test_a_probe_needs_one_target(tmp_path: Path) -> None:
    for wrong in ({}, {"url": "http://127.0.0.1:9/", "name": "a"}):
        with pytest.raises(SkillFailed, match="Give either"):
            await done(tmp_path, "probe", **wrong)


# --- editors' files


async def test_cursor_and_continue_are_read_in_their_own_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AI_STACK_CONFIG_DIR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert await done(tmp_path, "configured") == {"files": [], "servers": 0}
    cursor = {"mcpServers": {"papers": {"command": "uvx", "args": ["arxiv-mcp-server"]}}}
    await configured(tmp_path, ".cursor/mcp.json", cursor)
    await configured(
        tmp_path,
        ".continue/config.yaml",
        "mcpServers:\n  - name: Web\n    command: npx\n    args: ['-y', '@playwright/mcp@1.2']\n",
    )
    await configured(tmp_path, ".config/nixos-ai-stack/mcp.json", {"mcpServers": {}})
    found = await done(tmp_path, "configured")
    assert [(one["editor"], len(one["servers"])) for one in found["files"]] == [
        ("Cursor", 1), ("Continue", 1), ("AI Stack", 0),
    ]  # fmt: skip
    servers = [server for one in found["files"] for server in one["servers"]]
    assert [server["in_directory"] for server in servers] == ["arxiv", "playwright"]


async def test_other_forms_are_read(tmp_path: Path) -> None:
    code = """{
      // what VS Code writes, with "comments" and commas
      "servers": {"a": {"type": "http", "url": "http://a.example//mcp",}, /* b */
                  "b": {"command": "b", "args": ["x // y", "/* z */"], "disabled": true}},
    }"""
    found = await configured(tmp_path, ".vscode/mcp.json", code)
    assert found["editor"] == "VS Code"
    assert found["servers"][0]["url"] == "http://a.example//mcp"
    assert found["servers"][1]["args"] == ["x // y", "/* z */"] and found["servers"][1]["disabled"]
    zed = {"context_servers": {"c": {"command": {"path": "c", "args": ["1"], "env": {}}}}}
    found = await configured(tmp_path, "zed/settings.json", zed)
    assert (found["servers"][0]["command"], found["servers"][0]["args"]) == ("c", ["1"])


async def test_secrets_are_hidden_wherever_they_are(tmp_path: Path) -> None:
    servers = {
        "a": {"command": "a", "env": {"PLAIN": TOKEN}, "args": ["--api-key", TOKEN, "--x"]},
        "b": {"command": "b", "args": [f"--token={TOKEN}", "--header", f"Authorization: {TOKEN}"]},
        "c": {
            "command": "c",
            "args": [f"postgres://me:{TOKEN}@db/x", "abcdefghij0123456789KLMNOP"],
        },
        "d": {"url": f"https://me:{TOKEN}@h:8/x?k={TOKEN}", "headers": {"X": TOKEN}},
        "e": {"url": "https://h/s/abcdefghij0123456789KLMNOP/mcp"},
    }
    found = await configured(tmp_path, "claude_desktop_config.json", {"mcpServers": servers})
    assert found["editor"] == "Claude" and len(found["servers"]) == 5
    text = json.dumps(found)
    assert TOKEN not in text and "abcdefghij0123456789" not in text
    assert found["servers"][0]["args"] == ["--api-key", "•••", "--x"]
    assert found["servers"][2]["args"] == ["postgres://•••@db/x", "•••"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "{\n\n oops", "not JSON near line 3"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", "[]", "no object of settings"),
        ("a.json", "", "not JSON near line 1"),
        ("a.json", "x" * (600 << 10), "larger than 512 KiB"),
        ("a.json", '{"a": ' + "/*" * 200_000, "not JSON"),
        ("a.json", '"' + '\\"' * 200_000 + "\\", "not JSON"),
        ("a.yaml", "a: [", "not YAML near line"),
        ("a.yaml", "a: !!python/object/apply:os.system [id]", "not YAML near line 1"),
        ("a.yaml", "a: &a [1]\nb: [" + "*a, " * 50 + "]", "more YAML aliases"),
        ("a.yaml", "[" * 5_000, "not YAML"),
    ],
)
async def test_a_file_that_is_none_costs_no_other(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    good = tmp_path / "good.json"
    good.write_text('{"mcpServers": {"a": {"command": "a"}}}')
    bad = tmp_path / name
    bad.write_text(content)
    found = await done(tmp_path, "configured", files=[str(bad), str(good)])
    assert told in found["files"][0]["error"] and found["servers"] == 1


async def test_odd_entries_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    odd = {"a": 1, "b": {"command": 3, "args": "x", "env": [1]}, "c": {}, "d": {"args": [{}, "y"]}}
    found = await configured(tmp_path, "mcp.json", {"mcpServers": odd})
    assert [(s["name"], s["command"], s["args"]) for s in found["servers"]] == [
        ("b", "3", []), ("c", "", []), ("d", "", ["y"]),
    ]  # fmt: skip
    many = {f"s{n}": {"command": "x"} for n in range(500)}
    assert len((await configured(tmp_path, "mcp.json", {"mcpServers": many}))["servers"]) == 100
