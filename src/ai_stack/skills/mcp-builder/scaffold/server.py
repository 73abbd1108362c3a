"""The server: offers the tools that tools.json describes, and checks what they are given."""

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from mcp.server import Server, ServerRequestContext
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from .handlers import HANDLERS
from .upstream import ToolFailed, Upstream

DESCRIBED: dict[str, Any] = json.loads((files(__package__) / "tools.json").read_text("utf-8"))
TOOLS = [Tool.model_validate(row["tool"]) for row in DESCRIBED["tools"]]
REQUESTS = {row["tool"]["name"]: row.get("request") for row in DESCRIBED["tools"]}
CHECKS = {tool.name: Draft202012Validator(tool.input_schema) for tool in TOOLS}
UPSTREAM = Upstream(DESCRIBED["upstream"])


def create_server() -> Server[Any]:
    """The server with all its tools."""
    about = DESCRIBED["server"]
    return Server(
        about["name"],
        version=about["version"],
        instructions=about["instructions"] or None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def list_tools(
    context: ServerRequestContext[Any], params: PaginatedRequestParams | None
) -> ListToolsResult:
    """Every tool, on one page."""
    return ListToolsResult(tools=TOOLS)


async def call_tool(
    context: ServerRequestContext[Any], params: CallToolRequestParams
) -> CallToolResult:
    """Check the arguments and do what the tool is for; failures are told to the model."""
    arguments = params.arguments or {}
    try:
        return _result(await _done(params.name, arguments))
    except ToolFailed as error:
        return CallToolResult(content=[TextContent(type="text", text=str(error))], is_error=True)


async def _done(name: str, arguments: dict[str, Any]) -> Any:
    if name not in CHECKS:
        raise ToolFailed(f"There is no tool {name}; there are {', '.join(CHECKS)}.")
    wrong = [_told(error) for error in CHECKS[name].iter_errors(arguments)]
    if wrong:
        raise ToolFailed(f"Wrong arguments: {'; '.join(wrong[:10])}.")
    request = REQUESTS[name]
    return await (UPSTREAM.send(request, arguments) if request else HANDLERS[name](arguments))


def _told(error: Any) -> str:
    place = ".".join(map(str, error.absolute_path))
    return f"{place}: {error.message}" if place else str(error.message)


def _result(value: Any) -> CallToolResult:
    """Objects are structured content too; everything is text for those that read text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    structured = value if isinstance(value, dict) else None
    content = [TextContent(type="text", text=text)]
    return CallToolResult(content=content, structured_content=structured)
