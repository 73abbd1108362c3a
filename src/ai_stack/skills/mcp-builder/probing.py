"""Starts a server as a client would, lists its tools and calls them, over stdio."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, MCPError, StdioServerParameters, stdio_client

from ai_stack.skill import SkillFailed

TIME_S, MAX_SHOWN = 40.0, 100_000


@dataclass(frozen=True, slots=True)
class Probe:
    """What a server told: its name, the tools that it lists, what calls came to."""

    name: str
    protocol: str
    tools: list[dict[str, Any]]
    results: list[dict[str, Any]]


async def probe(
    source: Path, package: str, calls: Sequence[tuple[str, dict[str, Any]]], scratch: Path
) -> Probe:
    """Start `python -m package` and talk with it; SkillFailed with its last line when it fails."""
    log = scratch / "server.log"
    parameters = StdioServerParameters(
        command=sys.executable, args=["-B", "-m", package], cwd=scratch,
        env={"PYTHONPATH": os.pathsep.join([str(source), *filter(None, sys.path)])},
    )  # fmt: skip
    with log.open("w") as errors:
        try:
            async with (
                asyncio.timeout(TIME_S),
                Client(stdio_client(parameters, errlog=errors)) as client,
            ):
                return await _talk(client, calls)
        except TimeoutError:
            raise SkillFailed(f"The server did not answer within {TIME_S:g} s.") from None
        except (MCPError, OSError, ExceptionGroup):
            raise SkillFailed(f"The server does not start: {_last_line(log)}") from None


async def _talk(client: Client, calls: Sequence[tuple[str, dict[str, Any]]]) -> Probe:
    listed = await client.list_tools()
    tools = [{"name": t.name, "description": t.description, "input_schema": t.input_schema}
             for t in listed.tools]  # fmt: skip
    results = [await _called(client, name, arguments) for name, arguments in calls]
    about = client.server_info
    return Probe(about.name if about else "", str(client.protocol_version), tools, results)


async def _called(client: Client, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    found = await client.call_tool(name, arguments)
    texts = [getattr(part, "text", "") for part in found.content]
    return {
        "tool": name,
        "failed": bool(found.is_error),
        "text": "\n".join(filter(None, texts))[:MAX_SHOWN],
        "structured": found.structured_content,
    }


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1][:500] if lines else "it says nothing."
