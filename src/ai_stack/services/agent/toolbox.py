"""The tools of the agent: the stack's documents, its skills, and tools of other MCP servers.

A tool is harmless when it only reads what is the project's own and nothing leaves the machine.
Every other one needs a person's approval, whatever a document or a model says.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from ai_stack.errors import AIStackError, InvalidRequest, NotFound
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.search import SearchRequest
from ai_stack.models.skills import Listed
from ai_stack.services.documents import Documents
from ai_stack.services.search import Search
from ai_stack.services.skills import Skills, words

MCP, MCP_PREFIX = "mcp-server", "mcp__"
MCP_SEEN_S, MOST_SEEN = 60.0, 1000
FOUND, SHOWN_CHARACTERS = 4, 12_000
OPEN = {"/etc/chromium.d"}
Given: TypeAlias = Mapping[str, Any]
Use: TypeAlias = Callable[[Principal, Given], Awaitable["Used"]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Used:
    """What came of a call: text for the model, files that were made, tools that were found."""

    text: str
    artifacts: Sequence[Mapping[str, Any]] = ()
    found: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool; `parameters` is the JSON Schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    harmless: bool
    use: Use

    def json(self) -> dict[str, object]:
        """As a chat request names it."""
        about = {"name": self.name, "description": self.description[:1000]}
        return {"type": "function", "function": {**about, "parameters": dict(self.parameters)}}


@dataclass(slots=True)
class Seen:
    """The tools of MCP servers as one project saw them: what another was refused is not its."""

    tools: dict[str, Tool] = field(default_factory=dict)
    at: float = float("-inf")
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Toolbox:
    """All tools, by name; those of skills and servers are made when they are asked for."""

    search: Search
    documents: Documents
    skills: Skills
    _mcp: dict[UUID, "Seen"] = field(default_factory=dict)

    async def tool(self, principal: Principal, name: str) -> Tool:
        """A tool by its name; InvalidRequest names one that there is not."""
        own = self._own()
        if name in own:
            return own[name]
        if name.startswith(MCP_PREFIX):
            found = (await self._of_servers(principal)).get(name)
            if found is not None:
                return found
        try:
            return self._of_skill(await self.skills.get(name))
        except NotFound:
            raise InvalidRequest(f"There is no tool {name[:100]!r}.") from None

    async def find(self, principal: Principal, query: str, limit: int = FOUND) -> list[Tool]:
        """Skills that are ready, and own and servers' tools, that fit a query; best first."""
        skills = [one for one in await self.skills.find(query, 2 * limit) if one.ready]
        others = {**self._own(), **await self._of_servers(principal)}
        wanted = set(words(query))
        shared = {n: len(wanted & {*words(f"{n} {t.description}")}) for n, t in others.items()}
        fitting = sorted(
            (t for t in others.values() if shared[t.name]), key=lambda t: -shared[t.name]
        )
        half = max(limit - len(fitting), limit // 2)
        return [*map(self._of_skill, skills[:half]), *fitting][:limit]

    def _own(self) -> dict[str, Tool]:
        text = {"type": "string"}
        tools = [
            Tool(
                "search",
                "Find passages of the user's documents, by meaning and by words.",
                _object({"query": text, "limit": {"type": "integer", "minimum": 1, "maximum": 20}}),
                True,
                self._search,
            ),
            Tool(
                "read_document",
                "Read one document by its id.",
                _object({"id": text}),
                True,
                self._read,
            ),
            Tool(
                "find_tools",
                "Find more tools by what they should do; you can use them in your next step.",
                _object({"query": text}),
                True,
                self._find,
            ),
            Tool(
                "add_document",
                "Store a new document.",
                _object({"content": text, "id": text}, "content"),
                False,
                self._add,
            ),
            Tool(
                "delete_document",
                "Delete a document by its id, for good.",
                _object({"id": text}),
                False,
                self._delete,
            ),
        ]
        return {tool.name: tool for tool in tools}

    async def _search(self, principal: Principal, given: Given) -> Used:
        request = SearchRequest(query=str(given["query"]), limit=int(given.get("limit", 5)))
        answer = await self.search.search(request, principal)
        lines = [
            f"[{result.document.id}] {passage.text}"
            for result in answer.results
            for passage in result.passages[:2]
        ]
        return Used(_shortened("\n\n".join(lines) or "Nothing was found."))

    async def _read(self, principal: Principal, given: Given) -> Used:
        document = await self.documents.get(principal, str(given["id"]))
        return Used(_shortened(document.content))

    async def _find(self, principal: Principal, given: Given) -> Used:
        found = await self.find(principal, str(given["query"]))
        lines = [f"{tool.name}: {tool.description}" for tool in found]
        return Used("\n".join(lines) or "No tool fits.", found=[tool.name for tool in found])

    async def _add(self, principal: Principal, given: Given) -> Used:
        new = NewDocument(str(given["content"]), key=given.get("id"))
        written = await self.documents.add(principal, [new])
        return Used(f"It is stored as {written.documents[0].id}.")

    async def _delete(self, principal: Principal, given: Given) -> Used:
        await self.documents.delete(principal, str(given["id"]))
        return Used("It is deleted.")

    def _of_skill(self, listed: Listed) -> Tool:
        async def use(principal: Principal, given: Given) -> Used:
            run = await self.skills.execute(principal, listed.name, given)
            if run.output is None:
                return Used(f"It failed: {run.error or run.status}")
            made = run.output.get("artifacts") or ()
            assert isinstance(made, Sequence)
            files = [{"run_id": str(run.id), **dict(file)} for file in made]  # type: ignore[arg-type]
            return Used(_told(run.output), files)

        return Tool(
            listed.name, listed.description, listed.parameters, is_harmless(listed.permissions), use
        )

    async def _of_servers(self, principal: Principal) -> dict[str, Tool]:
        """The tools of the MCP servers that the settings name, as they were of late."""
        if not principal.allows(Scope.SKILLS):
            return {}
        if principal.project_id not in self._mcp and len(self._mcp) >= MOST_SEEN:
            self._mcp.clear()
        seen = self._mcp.setdefault(principal.project_id, Seen())
        async with seen.asking:
            if time.monotonic() - seen.at > MCP_SEEN_S:
                seen.tools = await self._asked_servers(principal)
                seen.at = time.monotonic()
        return seen.tools

    async def _asked_servers(self, principal: Principal) -> dict[str, Tool]:
        """What their skill lists; nothing where it cannot, since goals need other tools more."""
        try:
            run = await self.skills.execute(principal, MCP, {"action": "list"})
        except AIStackError as error:
            log.warning("the tools of MCP servers are not known: %s", error.message)
            return {}
        if run.output is None:
            log.warning("the tools of MCP servers are not known: %s", run.error or run.status)
        return dict(self._listed(run.output or {}))

    def _listed(self, output: Mapping[str, Any]) -> Sequence[tuple[str, Tool]]:
        servers = (output.get("output") or {}).get("servers") or ()
        return [
            (tool.name, tool)
            for server in servers
            for told in server.get("tools") or ()
            if (tool := self._of_server(str(server["name"]), told))
        ]

    def _of_server(self, server: str, told: Mapping[str, Any]) -> Tool:
        async def use(principal: Principal, given: Given) -> Used:
            call = {"action": "call", "server": server, "tool": told["name"]}
            run = await self.skills.execute(principal, MCP, {**call, "arguments": dict(given)})
            return Used(_told(run.output) if run.output else f"It failed: {run.error}")

        name = f"{MCP_PREFIX}{server}__{told['name']}"[:64]
        parameters = told.get("parameters") or {"type": "object"}
        return Tool(name, str(told.get("description", "")), parameters, False, use)


def is_harmless(permissions: Mapping[str, Any]) -> bool:
    """Whether a skill that may touch this only reads what is the project's own.

    What a browser is set to is nobody's secret; other folders and variables may be.
    """
    uses = permissions.get("uses") or ()
    foreign = permissions.get("secrets") or set(permissions.get("reads") or ()) - OPEN
    leaves = permissions.get("network") == "host" or permissions.get("writes")
    commands = permissions.get("isolation") == "inline" and permissions.get("programs")
    return "documents:write" not in uses and not (leaves or commands or foreign)


def _told(output: Mapping[str, Any]) -> str:
    """A skill's output for a model: what it says to people, then all of it as far as it fits."""
    parts = [str(output.get("summary") or ""), *map(str, output.get("notes") or ())]
    files = [str(file["name"]) for file in output.get("artifacts") or ()]
    if files:
        parts.append(f"Files: {', '.join(files)}")
    parts.append(json.dumps(output.get("output"), ensure_ascii=False))
    return _shortened("\n".join(part for part in parts if part))


def _shortened(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}\n(… {len(text) - SHOWN_CHARACTERS} characters left out)"


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    needed = [*required] or [name for name in properties if name != "limit"]
    return {
        "type": "object",
        "properties": dict(properties),
        "required": needed,
        "additionalProperties": False,
    }
