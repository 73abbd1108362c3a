"""MCP builder: servers of the Model Context Protocol, made, started and tried."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ai_stack.skill import JSON, File, Folder, Skill, SkillFailed, SkillResult, action

from .openapi import MAX_BYTES, Api, read
from .probing import Probe, probe
from .project import BEARER, Server, pack, package_of, write
from .tools import MAX_TOOLS, Spec, Tool, of_spec

Name = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$", description="Name of the server, as in shop.")
]
Address = Annotated[
    str, Field(pattern=r"^(https?://\S+)?$", max_length=500, description="Where the API is.")
]
Instructions = Annotated[
    str, Field(max_length=4000, description="What an assistant should know of the whole.")
]
TO_WRITE = "Write what these do in handlers.py, until then they give their arguments back: {}."
NO_URL = "The document names no server: set {}_URL when you run it, or give `url`."


class Call(BaseModel):
    """One call of a tool."""

    model_config = ConfigDict(extra="forbid")

    tool: Annotated[str, Field(max_length=128)]
    arguments: dict[str, JsonValue] = {}


class MCPBuilder(Skill):
    @action
    async def from_tools(
        self,
        *,
        name: Name,
        tools: Annotated[
            tuple[Spec, ...],
            Field(min_length=1, max_length=MAX_TOOLS, description="What it offers."),
        ],
        url: Address = "",
        instructions: Instructions = "",
    ) -> SkillResult:
        """Make a server from specifications of its tools."""
        found = [of_spec(spec) for spec in tools]
        names = [tool.name for tool in found]
        if len(set(names)) < len(names):
            raise SkillFailed("Two tools have one name.")
        own = [tool.name for tool in found if tool.sent is None]
        notes = [TO_WRITE.format(", ".join(own))] if own else []
        server = Server(name, "0.1.0", instructions, url, BEARER, found)
        return await self._made(server, notes)

    @action
    async def from_openapi(
        self,
        *,
        name: Name,
        document: Annotated[File | None, Field(description="The OpenAPI document.")] = None,
        text: Annotated[
            str, Field(max_length=MAX_BYTES, description="Its text, instead of a file.")
        ] = "",
        only: Annotated[
            tuple[Annotated[str, Field(max_length=300)], ...],
            Field(max_length=MAX_TOOLS, description="operationIds, tags, or `GET /path`."),
        ] = (),
        url: Address = "",
        instructions: Instructions = "",
    ) -> SkillResult:
        """Make a server whose tools are an HTTP API's operations."""
        given = text or await asyncio.to_thread(_text, document)
        api: Api = await asyncio.to_thread(read, given, only)
        notes = list(api.left_out)
        address = url or api.url
        server = Server(name, api.version, instructions or api.about, address, api.auth, api.tools)
        notes += [] if address else [NO_URL.format(server.variable)]
        return await self._made(server, notes)

    @action
    async def probe(
        self,
        folder: Annotated[Folder, Field(description="A project with src/PACKAGE/__main__.py.")],
        calls: Annotated[tuple[Call, ...], Field(max_length=50, description="What to call.")] = (),
    ) -> SkillResult:
        """Start a server, list its tools and call them."""
        source, package = package_of(folder)
        asked = [(call.tool, dict(call.arguments)) for call in calls]
        found = await probe(source, package, asked, self._place())
        failed = sum(result["failed"] for result in found.results)
        told = f"{len(found.tools)} tools; {len(found.results)} calls, {failed} of them failed."
        return SkillResult(_told(found), f"{found.name} speaks MCP {found.protocol}: {told}")

    async def _made(self, server: Server, notes: Sequence[str]) -> SkillResult:
        place = self._place()
        root = await asyncio.to_thread(write, server, place)
        await self.context.progress(1, 2, "Starting it once")
        found = await probe(root / "src", server.package, (), place)
        _compare(server.tools, found)
        names = pack(root, self.context.artifact(f"{root.name}.zip"))
        output = {**_told(found), "files": names, "package": server.package}
        told = f"{root.name} offers {len(found.tools)} tools; it was started, and lists them."
        return SkillResult(output, told, tuple(notes))

    def _place(self) -> Path:
        """A new folder, gone after the run."""
        return Path(tempfile.mkdtemp(dir=self.context.scratch))


def _compare(tools: Sequence[Tool], found: Probe) -> None:
    listed = [tool["name"] for tool in found.tools]
    if listed != [tool.name for tool in tools]:
        raise SkillFailed("The server lists other tools than it was made for.")


def _told(found: Probe) -> dict[str, JSON]:
    return {
        "server": found.name,
        "protocol": found.protocol,
        "tools": found.tools,
        "results": found.results,
    }


def _text(file: Path | None) -> str:
    if file is None:
        raise SkillFailed("Give the document as a file, or its text.")
    try:
        if file.stat().st_size > MAX_BYTES:
            raise SkillFailed(f"The document is larger than {MAX_BYTES >> 20} MiB.")
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise SkillFailed("The document cannot be read as UTF-8 text.") from None
