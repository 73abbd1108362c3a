"""A server to try the client with: `python selftest.py` speaks MCP on standard input and output."""

from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

server = MCPServer("self-test")


class Echo(BaseModel):
    """What was said, and how long it is."""

    text: str
    characters: int


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def echo(text: Annotated[str, Field(max_length=10_000, description="What is said.")]) -> Echo:
    """Give a text back, with the number of its characters."""
    return Echo(text=text, characters=len(text))


if __name__ == "__main__":
    server.run("stdio")
