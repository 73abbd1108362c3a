"""What the conformance suites call by fixed names, served beside the product's own tools.

They need a server whose tools log, ask their client, and answer with pictures; the product's do
none of that. The suite of the older era needs sessions too, which the product does without.
"""

import asyncio
import base64
import json
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.message import ServerMessageMetadata

from ai_stack.mcp import Resolver, Weigh, protocol
from ai_stack.mcp.face import Face
from ai_stack.mcp.toolsets import ABOUT

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5Erk"
    "Jggg=="
)
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
KEY = b"a key that seals the state of fixtures and nothing else"
EMPTY = {"type": "object", "properties": {}}
TEXT = {"type": "string"}
Tool = Callable[[Any, types.CallToolRequestParams], Awaitable[Any]]
TOOLS: dict[str, tuple[dict[str, Any], Tool]] = {}
BUS = InMemorySubscriptionBus()


def tool(schema: dict[str, Any] = EMPTY) -> Callable[[Tool], Tool]:
    def added(function: Tool) -> Tool:
        TOOLS[function.__name__] = schema, function
        return function

    return added


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def embedded(uri: str, kind: str, value: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": value}}


@tool()
async def test_simple_text(ctx, params):
    return [text("This is a simple text response for testing.")]


@tool()
async def test_image_content(ctx, params):
    return [{"type": "image", "data": PNG, "mimeType": "image/png"}]


@tool()
async def test_audio_content(ctx, params):
    return [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]


@tool()
async def test_embedded_resource(ctx, params):
    told = "This is an embedded resource content."
    return [embedded("test://embedded-resource", "text/plain", told)]


@tool()
async def test_multiple_content_types(ctx, params):
    given = '{"test": "data", "value": 123}'
    return [
        text("Multiple content types test:"),
        {"type": "image", "data": PNG, "mimeType": "image/png"},
        embedded("test://mixed-content-resource", "application/json", given),
    ]


@tool()
async def test_tool_with_logging(ctx, params):
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await log(ctx, said)
        await asyncio.sleep(0.05)
    return [text("Tool with logging executed successfully")]


@tool()
async def test_logging_tool(ctx, params):
    await log(ctx, "Nobody asked for this")
    return [text("Nothing was logged without being asked for")]


@tool()
async def test_streaming_elicitation(ctx, params):
    return [text("Nothing is asked of a client beside the result")]


@tool()
async def test_tool_with_progress(ctx, params):
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(0.05)
    return [text(str((ctx.meta or {}).get("progress_token")))]


WAITING: list[str] = []


@tool()
async def test_patience(ctx, params):
    """Waits to be cancelled; each that is leaves a word."""
    WAITING.append("begun")
    try:
        await asyncio.sleep(30)
    finally:
        WAITING.append("left")
    return [text("Nobody left")]


@tool()
async def test_error_handling(ctx, params):
    return {
        "content": [text("This tool intentionally returns an error for testing")],
        "isError": True,
    }


@tool(obj(prompt=TEXT))
async def test_sampling(ctx, params):
    asked = {"role": "user", "content": text(params.arguments["prompt"])}
    given = {"messages": [asked], "maxTokens": 100}
    request = types.CreateMessageRequest(
        params=types.CreateMessageRequestParams.model_validate(given)
    )
    found = await ask(ctx, request, types.CreateMessageResult)
    return [text(f"LLM response: {found.content.text}")]


@tool(obj(message=TEXT))
async def test_elicitation(ctx, params):
    schema = obj(response={"type": "string", "description": "User's response"})
    return await elicited(ctx, params.arguments["message"], schema, "User response")


@tool()
async def test_elicitation_sep1034_defaults(ctx, params):
    schema = obj(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={
            "type": "string",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        verified={"type": "boolean", "default": True},
    )
    return await elicited(ctx, "Please provide user information", schema, "Elicitation completed")


@tool()
async def test_elicitation_sep1330_enums(ctx, params):
    plain = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"Option {n}"} for n in (1, 2, 3)]
    names = {"enum": plain, "enumNames": ["Option One", "Option Two", "Option Three"]}
    schema = obj(
        untitledSingle={"type": "string", "enum": plain},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", **names},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": plain}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    return await elicited(ctx, "Please select options", schema, "Elicitation completed")


@tool()
async def test_reconnection(ctx, params):
    await log(ctx, "Before disconnect")
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(0.2)
    await log(ctx, "After reconnect")
    return [text("Reconnection test completed")]


@tool({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}})
async def test_x_mcp_header(ctx, params):
    return [text(f"region={(params.arguments or {}).get('region')}")]


@tool()
async def test_missing_capability(ctx, params):
    able = ctx.session.client_capabilities
    if able is None or able.sampling is None:
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs a client that samples.",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return [text("The client samples.")]


@tool()
async def test_trigger_tool_change(ctx, params):
    await BUS.publish(ToolsListChanged())
    return [text("tool list changed")]


@tool()
async def test_trigger_prompt_change(ctx, params):
    await BUS.publish(PromptsListChanged())
    return [text("prompt list changed")]


@tool(
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": TEXT, "city": TEXT},
            }
        },
        "properties": {
            "name": TEXT,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": TEXT,
            "email": TEXT,
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }
)
async def json_schema_2020_12_tool(ctx, params):
    return [text("json_schema_2020_12_tool")]


# A tool that wants something of its client answers with what it wants (SEP-2322).


def wants(state: str | None = None, **requests: Any) -> dict[str, Any]:
    shown = {"resultType": "input_required", "inputRequests": requests}
    return shown if state is None else {**shown, "requestState": state}


def name_of_user(message: str = "What is your name?", **fields: Any) -> dict[str, Any]:
    schema = obj(**(fields or {"name": TEXT}))
    asked = {"mode": "form", "message": message, "requestedSchema": schema}
    return {"method": "elicitation/create", "params": asked}


def sample(question: str) -> dict[str, Any]:
    asked = {"role": "user", "content": text(question)}
    params = {"messages": [asked], "maxTokens": 50}
    return {"method": "sampling/createMessage", "params": params}


ROOTS = {"method": "roots/list"}
CONFIRM = name_of_user("Please confirm", ok={"type": "boolean"})


def answers(params) -> dict[str, Any]:
    return params.input_responses or {}


@tool()
async def test_input_required_result_elicitation(ctx, params):
    given = answers(params).get("user_name")
    if isinstance(given, types.ElicitResult) and (given.content or {}).get("name"):
        return [text(f"Hello, {given.content['name']}!")]
    return wants(user_name=name_of_user())


@tool()
async def test_input_required_result_sampling(ctx, params):
    given = answers(params).get("capital_question")
    if given is not None:
        return [text(f"Model said: {given.content.text}")]
    return wants(capital_question=sample("What is the capital of France?"))


@tool()
async def test_input_required_result_list_roots(ctx, params):
    given = answers(params).get("client_roots")
    if given is not None:
        return [text(f"Client exposed {len(given.roots)} root(s).")]
    return wants(client_roots=ROOTS)


@tool()
async def test_input_required_result_request_state(ctx, params):
    if "confirm" in answers(params) and params.request_state == "nonce":
        return [text("state-ok: confirmation received")]
    return wants("nonce", confirm=CONFIRM)


@tool()
async def test_input_required_result_tampered_state(ctx, params):
    if params.request_state is not None:
        return [text(f"state-ok: {params.request_state}")]
    return wants("round-1", confirm=CONFIRM)


@tool()
async def test_input_required_result_multiple_inputs(ctx, params):
    if {"user_name", "greeting", "client_roots"} <= answers(params).keys():
        return [text("All inputs received.")]
    greeting = sample("Generate a greeting")
    return wants("several", user_name=name_of_user(), greeting=greeting, client_roots=ROOTS)


@tool()
async def test_input_required_result_multi_round(ctx, params):
    state = json.loads(params.request_state or '{"round": 0}')
    given = answers(params)
    if state["round"] == 1 and "step1" in given:
        after = json.dumps({"round": 2, "name": given["step1"].content.get("name")})
        return wants(after, step2=name_of_user("Step 2: What is your colour?", color=TEXT))
    if state["round"] == 2 and "step2" in given:
        return [text(f"{state['name']} likes {given['step2'].content.get('color')}.")]
    return wants(json.dumps({"round": 1}), step1=name_of_user("Step 1: What is your name?"))


@tool()
async def test_input_required_result_capabilities(ctx, params):
    able, asked = ctx.session.client_capabilities, {}
    if able is None or able.sampling is not None:
        asked["sample"] = sample("Say hello")
    if able is None or able.elicitation is not None:
        asked["ask"] = name_of_user()
    return wants("gated", **asked)


async def log(ctx, said: str) -> None:
    """The SDK marks this as outdated, which it is; the suites ask for it still."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        sending = ctx.session.send_log_message("info", said, related_request_id=ctx.request_id)
    await sending


async def ask(ctx, request, result):
    metadata = ServerMessageMetadata(related_request_id=ctx.request_id)
    return await ctx.session.send_request(request, result, metadata=metadata)


async def elicited(ctx, message: str, schema: dict[str, Any], told: str):
    form = types.ElicitRequestFormParams(message=message, requested_schema=schema)
    found = await ask(ctx, types.ElicitRequest(params=form), types.ElicitResult)
    return [text(f"{told}: action={found.action}, content={json.dumps(found.content or {})}")]


# Resources and prompts.

STATIC = {
    "test://static-text": ("text/plain", "This is the content of the static text resource."),
    "test://watched-resource": ("text/plain", "Watched resource content"),
}
TEMPLATE = {"uriTemplate": "test://template/{id}/data", "name": "template"}
PROMPTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


def resource(uri: str) -> dict[str, Any] | None:
    if uri in STATIC:
        kind, value = STATIC[uri]
        return {"uri": uri, "mimeType": kind, "text": value}
    if uri == "test://static-binary":
        return {"uri": uri, "mimeType": "image/png", "blob": PNG}
    if uri.startswith("test://template/"):
        id = uri.removeprefix("test://template/").partition("/")[0]
        told = {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}
        return {"uri": uri, "mimeType": "application/json", "text": json.dumps(told)}
    return None


def prompt(params) -> list[Any] | dict[str, Any]:
    given = params.arguments or {}
    if params.name == "test_prompt_with_arguments":
        told = f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'"
        return [text(told)]
    if params.name == "test_prompt_with_embedded_resource":
        content = "Embedded resource content for testing."
        return [embedded(given["resourceUri"], "text/plain", content), text("Process it.")]
    if params.name == "test_prompt_with_image":
        picture = {"type": "image", "data": PNG, "mimeType": "image/png"}
        return [picture, text("Please analyze the image above.")]
    if params.name == "test_input_required_result_prompt":
        found = answers(params).get("user_context")
        if found is None:
            return wants(user_context=name_of_user("What context?", context=TEXT))
        return [text(f"Use the following context: {found.content.get('context')}")]
    return [text("This is a simple prompt for testing.")]


# The product's handlers, with fixtures before them.


def with_fixtures(caller: Resolver, weigh: Weigh, *, sessions: bool = False) -> Face:
    """The product's face, serving the fixtures as well."""
    server = protocol.create_server()
    handlers = {
        "tools/list": listing("tools", shown_tools()),
        "tools/call": calling,
        "resources/list": listing("resources", shown_resources()),
        "resources/templates/list": listing("resourceTemplates", [TEMPLATE]),
        "resources/read": reading,
        "prompts/list": listing("prompts", shown_prompts()),
        "prompts/get": prompting,
    }
    for method, wrap in handlers.items():
        entry = server.get_request_handler(method)
        handle = protocol.completed(wrap(entry.handler))
        server.add_request_handler(method, entry.params_type, handle)
    for method, kind in (
        ("logging/setLevel", types.SetLevelRequestParams),
        ("resources/subscribe", types.SubscribeRequestParams),
        ("resources/unsubscribe", types.UnsubscribeRequestParams),
    ):
        server.add_request_handler(method, kind, nothing)
    listen = types.SubscriptionsListenRequestParams
    server.add_request_handler("subscriptions/listen", listen, ListenHandler(BUS))
    server.get_tool_input_schema = lambda name: TOOLS.get(name, (None,))[0]
    sealing = RequestStateSecurity(keys=[KEY])
    server.middleware.append(RequestStateBoundary(sealing, default_audience="fixtures"))
    return (WithSessions if sessions else Face)(server, caller, weigh, ABOUT)


async def nothing(ctx, params):
    return types.EmptyResult()


def listing(key: str, more: list[dict[str, Any]]):
    def wrap(original):
        async def handle(ctx, params):
            found = await original(ctx, params)
            return {**found, key: [*found[key], *more]}

        return handle

    return wrap


def calling(original):
    async def handle(ctx, params):
        if params.name not in TOOLS:
            return await original(ctx, params)
        made = await TOOLS[params.name][1](ctx, params)
        return made if isinstance(made, dict) else {"content": made}

    return handle


def reading(original):
    async def handle(ctx, params):
        found = resource(str(params.uri))
        return {"contents": [found]} if found else await original(ctx, params)

    return handle


def prompting(original):
    async def handle(ctx, params):
        if params.name not in PROMPTS:
            return await original(ctx, params)
        made = prompt(params)
        if isinstance(made, dict):
            return made
        return {"messages": [{"role": "user", "content": one} for one in made]}

    return handle


def shown_tools() -> list[dict[str, Any]]:
    return [
        {"name": name, "description": f"The fixture {name}.", "inputSchema": schema}
        for name, (schema, _) in TOOLS.items()
    ]


def shown_resources() -> list[dict[str, Any]]:
    uris = [*STATIC, "test://static-binary"]
    return [{"uri": uri, "name": uri.removeprefix("test://")} for uri in uris]


def shown_prompts() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "description": f"The fixture {name}.",
            "arguments": [{"name": one, "required": True} for one in arguments],
        }
        for name, arguments in PROMPTS.items()
    ]


class WithSessions(Face):
    """The same server with sessions, as the suite of the older era asks for them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.plain = self.followed = StreamableHTTPSessionManager(
            self.server, event_store=Events(), retry_interval=100
        )

    def running(self):
        return self.plain.run()

    def check_method(self, method: str) -> None:
        """All of them."""


class Events(EventStore):
    """Events in memory."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self.kept.append((stream_id, message))
        return str(len(self.kept))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback):
        number = int(last_event_id)
        stream = self.kept[number - 1][0]
        for n, (id, message) in enumerate(self.kept[number:], number + 1):
            if id == stream and message is not None:
                await send_callback(EventMessage(message, str(n)))
        return stream


SKILL = "a-conformance-skill"
FILES = {
    "SKILL.md": f"---\nname: {SKILL}\ndescription: Shows what a folder of a skill may hold.\n"
    "license: MIT\nmetadata:\n  author: tests\n---\n\n# Read this\n\nThere is nothing to do.\n",
    "references/more.md": "# More\n",
    "assets/dot.png": base64.b64decode(PNG),
}


def write_skill(folder: Path) -> None:
    """A skill with folders in it, among the user's own."""
    for name, content in FILES.items():
        path = folder / SKILL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
