"""Other MCP servers, those of the user's settings: their tools listed and called."""

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, JsonValue

from ai_stack.skill import JSON, Skill, SkillFailed, SkillResult, action

from .adding import checks, proposed
from .calling import called
from .connection import ServerFailed
from .listing import Listed, listed
from .masking import Mask
from .results import Answer, answer_json
from .servers import KEY, MAX_ARGS, MAX_TEXT, Entry, read_servers, server_named, settings_file

MAX_ARGUMENTS_BYTES = 1 << 20
LIST_S, CALL_S, LONGEST_S = 20.0, 60.0, 300.0
Named = Annotated[str, Field(min_length=1, max_length=64, description="Name of a server.")]
Words = Annotated[str, Field(max_length=MAX_TEXT)]
Args = Annotated[
    list[Words], Field(max_length=MAX_ARGS, description="Its arguments, without keys.")
]
Variables = Annotated[
    list[Words], Field(max_length=64, description="Names of variables that it needs.")
]
Headers = Annotated[
    list[Words], Field(max_length=64, description="Names of headers that it needs.")
]
Answers = list[Listed]


class MCPServers(Skill):
    @action
    async def list(
        self,
        server: Annotated[str, Field(max_length=64, description="Only this one.")] = "",
        wait_s: Annotated[
            float, Field(ge=1, le=120, description="How long each server may take, in seconds.")
        ] = LIST_S,
    ) -> SkillResult:
        """List the servers of the settings and their tools."""
        found = read_servers() if not server else None
        entries = found.entries if found else [server_named(server)]
        answers = await self._asked(entries, wait_s)
        notes = [*(found.notes if found else ()), *_notes(answers)]
        output: dict[str, JSON] = {"servers": [one.json() for one in answers]}
        return SkillResult(output, summary=_summary(answers), notes=tuple(notes))

    @action
    async def call(
        self,
        server: Named,
        tool: Annotated[str, Field(min_length=1, max_length=128, description="Name of a tool.")],
        arguments: Annotated[
            dict[str, JsonValue], Field(description="What the tool takes, by its `parameters`.")
        ] = {},  # noqa: B006
        wait_s: Annotated[
            float, Field(ge=1, le=LONGEST_S, description="How long it may take, in seconds.")
        ] = CALL_S,
    ) -> SkillResult:
        """Call a tool of a server of the settings."""
        if len(json.dumps(arguments)) > MAX_ARGUMENTS_BYTES:
            raise SkillFailed(f"`arguments` are more than {MAX_ARGUMENTS_BYTES >> 20} MiB.")
        entry = server_named(server)
        try:
            result = await called(entry, tool, arguments, wait_s, self.context.progress)
        except ServerFailed as error:
            raise SkillFailed(f"{server}: {error}") from None
        answer = Answer(tool, Mask(entry.way), self.context.artifact)
        output = await asyncio.to_thread(answer_json, server, result, answer)
        told = f"{server}: {tool} {'failed' if output['is_error'] else 'answered'}."
        return SkillResult(output, summary=told, notes=tuple(answer.notes))

    @action
    async def add(
        self,
        name: Named,
        command: Annotated[Words, Field(description="The program, for one over stdio.")] = "",
        args: Args = [],  # noqa: B006
        env: Variables = [],  # noqa: B006
        url: Annotated[Words, Field(description="Its address, for one over HTTP.")] = "",
        headers: Headers = [],  # noqa: B006
    ) -> SkillResult:
        """Show what to write into the settings for a new server; nothing is written."""
        shown, entry = proposed(name, command, args, env, url, headers)
        found = checks(entry, shown)
        ok, file = all(check.ok for check in found), str(settings_file())
        entry_json: JSON = {KEY: {name: shown}}
        output: dict[str, JSON] = {
            "file": file, "entry": entry_json, "checks": [c.json() for c in found], "ok": ok,
        }  # fmt: skip
        lines = [f"Write this into {file}:", json.dumps(entry_json)]
        faults = [check.told for check in found if not check.ok]
        note = "Only a person who may edit the file adds a server; nothing was written or started."
        return SkillResult(output, summary="\n".join([*lines, *faults][:5]), notes=(note,))

    async def _asked(self, entries: Sequence[Entry], wait_s: float) -> Answers:
        """All servers at once, each with its own time; one that fails costs only its entry."""
        done = 0

        async def ask(entry: Entry) -> Listed:
            nonlocal done
            found = await listed(entry, wait_s)
            done += 1
            await self.context.progress(done, len(entries), entry.name)
            return found

        return [*await asyncio.gather(*map(ask, entries))]


def _notes(answers: Answers) -> list[str]:
    return [f"{one.name}: {note}" for one in answers for note in one.notes]


def _summary(answers: Answers) -> str:
    if not answers:
        return "No server is configured."
    ready = [one for one in answers if not one.error]
    tools = sum(len(one.tools) for one in ready)
    lines = [f"{len(ready)} of {len(answers)} servers are ready, with {tools} tools."]
    lines += [f"{one.name}: {one.error}" for one in answers if one.error]
    return "\n".join(lines[:5])
