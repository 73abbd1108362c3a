"""The servers that mcp_calls.py measures: one tool that gives a text back, one process each.

    python benchmarks/mcp_servers.py ours|lowlevel|mcpserver|fastmcp --port N [--profile FILE]

All answer JSON, without sessions, behind uvicorn with uvloop and httptools.
"""
# ruff: noqa: PLC0415 (each server imports its own framework, and one runs where ours is not)

import argparse
import cProfile
from pathlib import Path
from typing import Any

import uvicorn


def ours() -> tuple[Any, dict[str, Any]]:
    """The gateway itself with one tool more: its gate, its face, its way to a tool."""
    from typing_extensions import TypedDict

    from ai_stack.connections import Connection
    from ai_stack.mcp import toolsets
    from ai_stack.mcp.tools import READS, Arguments, Tool
    from ai_stack.server import create_app
    from ai_stack.settings import Settings
    from ai_stack.stack import Stack

    class Text(Arguments):
        text: str

    class Echoed(TypedDict):
        result: str

    async def echo(call: Any, asked: Text) -> dict[str, str]:
        """Give a text back."""
        return {"result": asked.text}

    tool = Tool(echo, "Echo", Text, Echoed, READS)
    toolsets.PLAIN = {**toolsets.PLAIN, "": (*toolsets.PLAIN[""], tool)}
    settings = Settings(data_dir=Path("/tmp"), config_dir=Path("/tmp"))
    return create_app(settings, object.__new__(Stack)), {"http": Connection}


def lowlevel() -> tuple[Any, dict[str, Any]]:
    """The SDK's own server without its decorators: the least that it can do."""
    import mcp_types as types
    from mcp.server.lowlevel import Server

    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    told = {"type": "object", "properties": {"result": {"type": "string"}}, "required": ["result"]}
    tool = types.Tool(
        name="echo", description="Give a text back.", input_schema=schema, output_schema=told
    )

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        text = (params.arguments or {})["text"]
        content = [types.TextContent(type="text", text=text)]
        return types.CallToolResult(content=content, structured_content={"result": text})

    server = Server("bare", on_list_tools=list_tools, on_call_tool=call_tool)
    return server.streamable_http_app(json_response=True, stateless_http=True), {}


def mcpserver() -> tuple[Any, dict[str, Any]]:
    """The SDK's server as its guide shows it."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("bare")

    @server.tool()
    async def echo(text: str) -> str:
        """Give a text back."""
        return text

    return server.streamable_http_app(json_response=True, stateless_http=True), {}


def fastmcp() -> tuple[Any, dict[str, Any]]:
    """FastMCP as its guide shows it."""
    from fastmcp import FastMCP

    server = FastMCP("bare")

    @server.tool
    async def echo(text: str) -> str:
        """Give a text back."""
        return text

    return server.http_app(json_response=True, stateless_http=True), {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = {made.__name__: made for made in (ours, lowlevel, mcpserver, fastmcp)}
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--profile", help="file for the profile, written at the end")
    options = parser.parse_args()
    app, more = kinds[options.kind]()
    serving = {"loop": "uvloop", "http": "httptools", "log_level": "error", **more}
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    uvicorn.run(app, port=options.port, access_log=False, **serving)
    if options.profile:
        profile.disable()
        profile.dump_stats(options.profile)


if __name__ == "__main__":
    main()
