"""What a tool is: arguments that are checked, one service call, an answer that models can read."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolRequestParams
from pydantic import BaseModel, ConfigDict, ValidationError

from ai_stack.errors import AIStackError
from ai_stack.mcp.calls import Call, Context
from ai_stack.mcp.failures import invalid, told, unexpected
from ai_stack.mcp.schemas import Schema, schema_of
from ai_stack.models.principals import Scope

Result = dict[str, Any]
Answer = Mapping[str, Any]


class Arguments(BaseModel):
    """What a tool takes; a name that it does not know is an error that names it."""

    model_config = ConfigDict(extra="forbid")


class NoArguments(Arguments):
    """Nothing."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What a tool does to the world: clients ask their user before one that is destructive."""

    reads: bool = False
    destroys: bool = False
    repeats: bool = False  # a second call with the same arguments changes nothing more
    open_world: bool = False

    def shown(self) -> dict[str, bool]:
        hints = {"readOnlyHint": self.reads, "openWorldHint": self.open_world}
        if self.reads:
            return hints
        return {**hints, "destructiveHint": self.destroys, "idempotentHint": self.repeats}


READS = Hints(reads=True)


class Tool:
    """One tool; the first paragraph of `run`'s docstring is what models read of it."""

    def __init__(
        self,
        run: Callable[[Call, Any], Awaitable[Answer]],
        title: str,
        takes: type[BaseModel],
        gives: Any,
        hints: Hints,
        *,
        scope: Scope,
    ) -> None:
        self.run, self.takes, self.hints, self.scope = run, takes, hints, scope
        self.name: str = run.__name__
        self.input_schema: Schema = schema_of(takes)
        self.shown: dict[str, Any] = {
            "name": self.name,
            "title": title,
            "description": " ".join((run.__doc__ or "").split()),
            "inputSchema": self.input_schema,
            "outputSchema": schema_of(gives),
            "annotations": hints.shown(),
        }

    async def call(self, call: Call, arguments: Mapping[str, Any]) -> Answer:
        """The tool's answer to arguments that are still to be checked."""
        try:
            checked = self.takes.model_validate(arguments)
        except ValidationError as error:
            raise invalid(error) from error
        return await self.run(call, checked)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A tool whose schema comes from elsewhere, such as a skill."""

    shown: Mapping[str, Any]
    scope: Scope
    run: Callable[[Call, Mapping[str, Any]], Awaitable[Answer]]

    async def call(self, call: Call, arguments: Mapping[str, Any]) -> Answer:
        return await self.run(call, arguments)


AnyTool = Tool | Adopted
Toolset = Callable[[Call], Awaitable[Mapping[str, AnyTool]]]


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of every toolset, as MCP's `tools/list` and `tools/call` want them."""

    toolsets: Mapping[str, Toolset]

    async def list(self, context: Context, _: object) -> Result:
        call = Call.of(context)
        return {"tools": [dict(tool.shown) for tool in (await self._of(call)).values()]}

    async def call(self, context: Context, params: CallToolRequestParams) -> Result:
        call = Call.of(context)
        tool = (await self._of(call)).get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"This toolset has no tool {params.name[:100]}.")
        began, outcome = time.perf_counter(), "failed"
        try:
            result = await result_of(tool, call, params.arguments or {})
            outcome = "failed" if result["isError"] else "ok"
            return result
        finally:
            took_s, counted = time.perf_counter() - began, call.stack.telemetry.counted
            counted.mcp_calls.observe(took_s, params.name, outcome)

    async def _of(self, call: Call) -> Mapping[str, AnyTool]:
        """The tools that the caller sees: of its toolsets those that it may use."""
        found: dict[str, AnyTool] = {}
        for name in self.toolsets.keys() & call.toolsets:  # a key may name one that is not there
            found |= await self.toolsets[name](call)
        return {name: tool for name, tool in found.items() if call.principal.allows(tool.scope)}


async def result_of(tool: AnyTool, call: Call, arguments: Mapping[str, Any]) -> Result:
    """The result of one call; a failure is a result too, which the model can read."""
    try:
        answer = await tool.call(call, arguments)
    except AIStackError as error:
        return failed(error)
    except MCPError:
        raise
    except Exception:  # noqa: BLE001 (the one place where this face translates failures)
        return failed(unexpected(call.request_id))
    encoded = orjson.dumps(answer)
    return {
        "content": [{"type": "text", "text": encoded.decode()}],
        "structuredContent": orjson.loads(encoded),
        "isError": False,
    }


def failed(error: AIStackError) -> Result:
    return {"content": [{"type": "text", "text": told(error)}], "isError": True}


def named(tools: Sequence[AnyTool]) -> dict[str, AnyTool]:
    return {str(tool.shown["name"]): tool for tool in tools}
