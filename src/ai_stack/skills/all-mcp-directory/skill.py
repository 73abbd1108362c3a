"""Well-known MCP servers, those that editors have configured, and what a live one offers."""

import asyncio
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .directory import Start, directory, found, known
from .editors import Configured, editor_of, known_places, read_servers, stack_file
from .probing import probed, require_loopback

MAX_FILES = 20
Short = Annotated[str, Field(max_length=200)]


class AllMCPDirectory(Skill):
    @action
    async def search(
        self,
        query: Annotated[Short, Field(description="What it should do; empty for all.")] = "",
        start: Annotated[Start | None, Field(description="Only those started in this way.")] = None,
        limit: Annotated[int, Field(ge=1, le=100, description="At most so many.")] = 10,
    ) -> SkillResult:
        """Find servers in the directory by what they do."""
        fitting = found(query, start)
        shown: list[JSON] = [server.brief() for server in fitting[:limit]]
        output: dict[str, JSON] = {"found": len(fitting), "of": len(directory()), "servers": shown}
        lines = [f"{server.id}: {server.does}" for server in fitting[:4]]
        told = "\n".join([f"{len(fitting)} of {len(directory())} servers fit.", *lines])
        return SkillResult(output, summary=told)

    @action
    async def show(
        self, id: Annotated[Short, Field(min_length=1, description="Id of a server.")]
    ) -> SkillResult:
        """Show one server: what it does, what it needs, and the entry to write."""
        server = known(id)
        needs = ", ".join((*server.env, *server.headers)) or "no key"
        notes = ["`<your value>` stands for what only you know; write it into the file alone."]
        notes += ["It asks for a login in the browser (OAuth)."] if server.oauth else []
        told = f"{server.id}: {server.does}\nStarted by {server.start}; needs {needs}."
        return SkillResult(server.whole(), summary=told, notes=tuple(notes))

    @action
    async def probe(
        self,
        url: Annotated[
            str, Field(max_length=2000, description="Address of a server on this machine.")
        ] = "",
        name: Annotated[Short, Field(description="Or a server's name in the settings.")] = "",
        wait_s: Annotated[
            float, Field(ge=1, le=60, description="At most so long, in seconds.")
        ] = 15,
    ) -> SkillResult:
        """Ask a live server for its tools."""
        if bool(url) == bool(name):
            raise SkillFailed("Give either `url`, on this machine, or `name`, of the settings.")
        server = await asyncio.to_thread(_of_settings, name) if name else Configured("", url=url)
        if url:
            require_loopback(url)
        seen = await probed(server.url, server.headers, wait_s)
        shown, about = seen.json(), server.json()
        output: dict[str, JSON] = {"name": name or None, "url": about["url"], **shown}
        count = f"It is ready, with {len(seen.tools)} tools." if not seen.error else shown["error"]
        return SkillResult(output, summary=f"{name or about['url']}: {count}")

    @action
    async def configured(
        self,
        files: Annotated[
            list[File],
            Field(max_length=MAX_FILES, description="Editors' files; else their own places."),
        ] = [],  # noqa: B006
    ) -> SkillResult:
        """Read which servers editors have configured, with their secrets hidden."""
        places = [*files] or await asyncio.to_thread(known_places)
        read = [await asyncio.to_thread(_read, file) for file in places]
        servers = [server for _, found in read for server in found]
        output: dict[str, JSON] = {"files": [told for told, _ in read], "servers": len(servers)}
        names = ", ".join(sorted({server.name[:64] for server in servers})) or "none"
        summary = f"{len(servers)} servers in {len(read)} files: {names[:500]}."
        note = () if places else ("No editor's file was found in its usual place; give `files`.",)
        return SkillResult(output, summary=summary, notes=note)


def _read(file: Path) -> tuple[dict[str, JSON], list[Configured]]:
    """One file as callers get it; a fault of it is told and costs no other."""
    about: dict[str, JSON] = {"file": file.name, "editor": editor_of(file)}
    try:
        servers = read_servers(file)
    except SkillFailed as error:
        return {**about, "error": str(error), "servers": []}, []
    return {**about, "servers": [server.json() for server in servers]}, servers


def _of_settings(name: str) -> Configured:
    """A server that the settings name, and that is reached by URL."""
    file = stack_file()
    try:
        servers = {server.name: server for server in read_servers(file)}
    except SkillFailed as error:
        raise SkillFailed(f"The settings' {file.name}: {error}") from None
    server = servers.get(name)
    if server is None:
        raise SkillFailed(f"The settings name no server {name!r}; they name: {_names(servers)}.")
    if not server.url.startswith(("http://", "https://")):
        raise SkillFailed(
            f"{name} is a program, which this skill may not start: list its tools by `mcp-server`,"
            ' with {"action": "list", "server": "' + name + '"}.'
        )
    return server


def _names(servers: dict[str, Configured]) -> str:
    return ", ".join(servers)[:300] or "none"
