"""OpenAI's Responses API as a dialect of chat: requests in, whole answers out; pure.

Streams are in response_events.py, what is stored in stored.py. Tools that OpenAI's own servers
run (web search, files, code) are refused; `truncation` "auto" is taken, and yet nothing is ever
cut: a conversation that is too long is an error, and the answer says "disabled".
Source: OpenAI's API reference, "Responses"; the types of the `openai` package.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ai_stack.services.inference import dialects
from ai_stack.services.inference.conversation import Conversation
from ai_stack.services.inference.dialects import Json, list_of, object_of, refusal, text_of
from ai_stack.services.inference.requests import BOOL, MODEL, OBJECT, SHARE, TOKENS, UNUSED, Field
from ai_stack.services.inference.response_events import ResponseStream
from ai_stack.services.inference.response_items import as_items, read, stored

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES = ("auto", "concise", "detailed")
VERBOSITIES = ("low", "medium", "high")
LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = (  # the others speak of tools that are refused, or of what is never encrypted here
    LOGPROBS,
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
TEXT = Field(lambda v: isinstance(v, str), "a text")
ABSENT = Field(lambda v: v is False, "left out: this is not supported here")
FIELDS: Mapping[str, Field] = {
    "model": MODEL,
    "input": Field(lambda v: isinstance(v, str | list), "a text or a list of items"),
    "instructions": TEXT,
    "tools": Field(lambda v: isinstance(v, list), "a list of tools"),
    "tool_choice": Field(lambda v: isinstance(v, str | dict), "a text or an object"),
    "parallel_tool_calls": BOOL,
    "text": OBJECT,
    "max_output_tokens": Field(lambda v: TOKENS.check(v) and v > 0, "a number of tokens"),
    "temperature": Field(lambda v: type(v) in (int, float) and 0 <= v <= 2, "from 0 to 2"),
    "top_p": SHARE,
    "top_logprobs": Field(lambda v: type(v) is int and 0 <= v <= 20, "from 0 to 20"),
    "reasoning": OBJECT,
    "metadata": Field(
        lambda v: isinstance(v, dict) and all(isinstance(t, str) for t in v.values()),
        "an object of texts",
    ),
    "store": BOOL,
    "previous_response_id": TEXT,
    "stream": BOOL,
    "stream_options": OBJECT,
    "include": Field(
        lambda v: isinstance(v, list) and all(name in INCLUDABLE for name in v),
        f"a list from {', '.join(INCLUDABLE)}",
    ),
    "truncation": Field(lambda v: v in ("auto", "disabled"), "auto or disabled"),
    "user": TEXT,
    "seed": Field(lambda v: type(v) is int, "a whole number"),
    **dict.fromkeys(("background", "conversation", "prompt", "moderation"), ABSENT),
    **dict.fromkeys(("context_management", "access_programs"), ABSENT),
    **dict.fromkeys(("safety_identifier", "prompt_cache_key"), TEXT),
    "max_tool_calls": Field(lambda v: type(v) is int, "a whole number"),
    **dict.fromkeys(("service_tier", "prompt_cache_retention"), UNUSED),
    **dict.fromkeys(("prompt_cache_options", "client_metadata", "image"), UNUSED),
}
SAME = ("model", "temperature", "top_p", "user", "seed", "stream")


def to_chat(request: Json, history: Sequence[Json] = ()) -> dict[str, Any]:
    """The chat request for a Responses request; InvalidRequest names what cannot be translated.

    `history` are the items of the responses before it, oldest first, inputs and outputs.
    """
    dialects.check(FIELDS, request, ("input",))
    chat = {**_settings(request), "messages": _messages(request, history)}
    tools = [_tool(tool, f"tools[{n}]") for n, tool in enumerate(request.get("tools") or ())]
    chat.update(_tool_settings(request, tools))
    if chat.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    return chat


def from_chat(
    request: Json, answer: Json, *, id: str, created_at: float, completed_at: float | None = None
) -> dict[str, Any]:
    """The Response object for a whole chat answer."""
    stream = ResponseStream(request, id, created_at)
    for _ in stream.feed(dialects.chunk_of(answer)):
        pass
    for _ in stream.finish(completed_at):
        pass
    return stream.response


def input_items(request: Json, *, id: str) -> list[dict[str, Any]]:
    """The items of a request that to_chat has taken, as they are stored with response `id`."""
    return list(stored(as_items(request["input"]), id))


def looks_like(body: Json) -> bool:
    """Whether a body that came to /chat/completions has the form of the Responses API.

    Also where only its tools have, the function's fields lying beside `type`.
    """
    if "messages" not in body:
        return "input" in body
    tools = body.get("tools")
    return isinstance(tools, list) and any(
        isinstance(tool, Mapping) and "name" in tool and "function" not in tool for tool in tools
    )


def as_chat(body: Json) -> dict[str, Any]:
    """The chat request for a body that looks like this; its answer is in chat's own form.

    Lenient: fields that both have pass, what only Responses has is translated or left out, as are
    tools that are no functions.
    """
    chat = {name: value for name, value in body.items() if name not in ONLY_HERE}
    if "messages" not in body:
        chat = {**chat, **_settings(body), "messages": _messages(body, ())}
    chat.pop("tool_choice", None)
    functions = [t for t in list_of(body.get("tools") or [], "tools") if _is_function(t)]
    tools = [_tool(tool, "tools") for tool in functions]
    return {**chat, **_tool_settings({**body, "tools": functions}, tools)}


ONLY_HERE = frozenset(FIELDS) - {"metadata", "stream_options", "top_logprobs", *SAME}


def _messages(request: Json, history: Sequence[Json]) -> list[dict[str, Any]]:
    conversation = Conversation()
    if request.get("instructions"):
        conversation.instruct(text_of(request["instructions"], "instructions"))
    read(conversation, history, "previous_response_id")
    read(conversation, as_items(request["input"]))
    return conversation.messages()


def _settings(request: Json) -> dict[str, Any]:
    """What says how to answer, tools aside."""
    chat = {name: request[name] for name in SAME if request.get(name) is not None}
    if request.get("max_output_tokens") is not None:
        chat["max_tokens"] = request["max_output_tokens"]
    reasoning = object_of(request.get("reasoning") or {}, "reasoning")
    if _one_of(reasoning, "reasoning", "effort", EFFORTS):
        chat["reasoning_effort"] = "xhigh" if reasoning["effort"] == "max" else reasoning["effort"]
    _one_of(reasoning, "reasoning", "summary", SUMMARIES)
    text = object_of(request.get("text") or {}, "text")
    _one_of(text, "text", "verbosity", VERBOSITIES)
    if text.get("format") is not None:
        chat.update(_format(object_of(text["format"], "text.format")))
    if LOGPROBS in list_of(request.get("include") or [], "include") or request.get("top_logprobs"):
        chat.update(logprobs=True, top_logprobs=request.get("top_logprobs") or 0)
    return chat


def _one_of(fields: Json, where: str, name: str, values: Sequence[str]) -> bool:
    """Whether a field is there; it has no effect here where its result is not used."""
    value = fields.get(name)
    if value is not None and value not in values:
        raise refusal(f"{where}.{name}", f"must be one of {', '.join(values)}")
    return value is not None


def _format(format: Json) -> dict[str, Any]:
    kind = format.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": kind}}
    if kind != "json_schema":
        raise refusal("text.format.type", "must be text, json_object or json_schema")
    object_of(format.get("schema"), "text.format.schema")
    text_of(format.get("name"), "text.format.name")
    named = {k: format[k] for k in ("name", "description", "schema", "strict") if k in format}
    return {"response_format": {"type": kind, "json_schema": named}}


def _is_function(tool: Any) -> bool:
    return isinstance(tool, Mapping) and (tool.get("type") or "function") == "function"


def _tool(tool: Any, where: str) -> dict[str, Any]:
    """A function in chat's form, from either form."""
    tool = object_of(tool, where)
    if not _is_function(tool):
        raise refusal(f"{where}.type", "only tools of type function are supported here")
    flat = object_of(tool["function"], f"{where}.function") if "function" in tool else tool
    text_of(flat.get("name"), f"{where}.name")
    schema = flat.get("parameters", flat.get("input_schema"))
    named = {k: flat[k] for k in ("name", "description", "strict") if flat.get(k) is not None}
    if schema is not None:
        named["parameters"] = object_of(schema, f"{where}.parameters")
    return {"type": "function", "function": named}


def _tool_settings(request: Json, tools: list[dict[str, Any]]) -> dict[str, Any]:
    """The tools, with the choice among them; what concerns tools is left out where none are."""
    choice = request.get("tool_choice")
    names = [tool["function"]["name"] for tool in tools]
    if not tools:
        if choice not in (None, "auto", "none"):
            raise refusal("tool_choice", "there are no tools to choose from")
        return {}
    chat: dict[str, Any] = {"tools": tools}
    if request.get("parallel_tool_calls") is not None:
        chat["parallel_tool_calls"] = request["parallel_tool_calls"]
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return {**chat, **_allowed(choice, tools)}
    if choice is not None:
        chat["tool_choice"] = _choice(choice, names)
    return chat


def _choice(choice: Any, names: Sequence[str]) -> str | dict[str, Any]:
    if choice in ("none", "auto", "required"):
        return str(choice)
    if not isinstance(choice, dict) or choice.get("type") != "function":
        raise refusal("tool_choice", "must be none, auto, required or name a function")
    name = object_of(choice.get("function", choice), "tool_choice.function").get("name")
    if name not in names:
        raise refusal("tool_choice.name", "there is no tool of this name")
    return {"type": "function", "function": {"name": name}}


def _allowed(choice: Json, tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Only the allowed tools are shown: engines know no such choice."""
    named = list_of(choice.get("tools"), "tool_choice.tools")
    names = [object_of(tool, "tool_choice.tools").get("name") for tool in named]
    kept = [tool for tool in tools if tool["function"]["name"] in names]
    if not kept or choice.get("mode") not in ("auto", "required"):
        raise refusal("tool_choice", "names none of the tools, or its mode is unknown")
    return {"tools": kept, "tool_choice": choice["mode"]}
