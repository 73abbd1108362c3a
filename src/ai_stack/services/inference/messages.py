"""Anthropic's Messages API as a dialect of chat: requests in, whole answers and errors out; pure.

Streams are in message_events.py. Tools that Anthropic's own servers run are refused. What the
model thinks is told only to clients that asked for it by `thinking`.
Source: Anthropic's API reference, "Messages"; the types of the `anthropic` package.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import orjson

from ai_stack.services.inference import dialects
from ai_stack.services.inference.conversation import (
    Conversation,
    Part,
    image_part,
    joined,
    text_part,
)
from ai_stack.services.inference.dialects import Json, list_of, object_of, refusal, text_of
from ai_stack.services.inference.message_events import MessageStream
from ai_stack.services.inference.requests import (
    BOOL,
    LIMIT,
    MODEL,
    OBJECT,
    SHARE,
    TOKENS,
    UNUSED,
    Field,
)

EFFORTS = ("low", "medium", "high", "xhigh", "max")
ABSENT = Field(lambda _: False, "left out: this is not supported here")
TEXTS = Field(
    lambda v: isinstance(v, list) and all(isinstance(t, str) for t in v), "a list of texts"
)
FIELDS: Mapping[str, Field] = {
    "model": MODEL,
    "max_tokens": Field(lambda v: TOKENS.check(v) and v > 0, "a number of tokens"),
    "messages": Field(lambda v: isinstance(v, list) and bool(v), "a list of messages"),
    "system": Field(lambda v: isinstance(v, str | list), "a text or a list of text blocks"),
    "tools": Field(lambda v: isinstance(v, list), "a list of tools"),
    "tool_choice": OBJECT,
    "stop_sequences": TEXTS,
    "temperature": Field(lambda v: type(v) in (int, float) and 0 <= v <= 2, "from 0 to 2"),
    "top_p": SHARE,
    "top_k": LIMIT,
    "metadata": OBJECT,
    "thinking": OBJECT,
    "output_config": OBJECT,
    "output_format": OBJECT,
    "stream": BOOL,
    # Hints to Anthropic's own servers: what they say has no effect here.
    **dict.fromkeys(("cache_control", "service_tier", "context_management", "speed"), UNUSED),
    **dict.fromkeys(("inference_geo", "diagnostics", "user_profile_id", "workspace_id"), UNUSED),
    **dict.fromkeys(("container", "mcp_servers"), ABSENT),
}
SAME = ("model", "max_tokens", "temperature", "top_p", "top_k", "stream")
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
THOUGHT = ((4096, "low"), (16_384, "medium"))  # budgets in tokens, up to which an effort is meant
# A line that a client puts at the head, other in each request, so that no prefix is ever shared.
BILLING = "x-anthropic-billing-header:"
TOKEN_FIELDS = ("model", "messages", "tools")


def to_chat(request: Json) -> dict[str, Any]:
    """The chat request for a Messages request; InvalidRequest names what cannot be translated."""
    dialects.check(FIELDS, request, ("max_tokens", "messages"))
    return _translated(request)


def to_count(request: Json) -> dict[str, Any]:
    """The chat request whose prompt is to be counted, for POST /v1/messages/count_tokens."""
    dialects.check(FIELDS, request, ("messages",))
    return {name: v for name, v in _translated(request).items() if name in TOKEN_FIELDS}


def from_chat(request: Json, answer: Json, *, id: str) -> dict[str, Any]:
    """The Message for a whole chat answer; EngineFailed for a tool call that is no JSON object."""
    stream = MessageStream(request, id)
    for _ in stream.feed(dialects.chunk_of(answer)):
        pass
    for _ in stream.finish():
        pass
    return stream.message


def _translated(request: Json) -> dict[str, Any]:
    chat = {name: request[name] for name in SAME if request.get(name) is not None}
    chat["messages"] = _messages(request)
    chat.update(_tool_settings(request))
    if request.get("stop_sequences"):
        chat["stop"] = request["stop_sequences"]
    user = (request.get("metadata") or {}).get("user_id")
    if isinstance(user, str):
        chat["user"] = user[:512]
    chat.update(_thinking(request))
    chat.update(_format(request))
    if chat.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    return chat


def _messages(request: Json) -> list[dict[str, Any]]:
    conversation = Conversation()
    if request.get("system"):
        _system(conversation, request["system"], "system")
    numbered = [
        (object_of(message, f"messages[{n}]"), f"messages[{n}]")
        for n, message in enumerate(request["messages"])
    ]
    for role, turn in groupby(numbered, key=lambda pair: str(pair[0].get("role"))):
        blocks = [block for message, where in turn for block in _blocks(message, where)]
        if role not in TURNS:
            raise refusal(f"{blocks[0][1]}.role", f"must be one of {', '.join(TURNS)}")
        TURNS[role](conversation, blocks)
    return conversation.messages()


Block = tuple[dict[str, Any], str]
"""A content block, and its path in the request."""


def _blocks(message: Json, where: str) -> list[Block]:
    """Blocks of a message; of no role, one block, whose path shows where."""
    if str(message.get("role")) not in TURNS:
        return [({}, where)]
    return _listed(message.get("content"), f"{where}.content")


def _listed(content: Any, where: str) -> list[Block]:
    if isinstance(content, str):
        return [(text_part(content), where)]
    blocks = list_of(content, where)
    return [(object_of(b, f"{where}[{n}]"), f"{where}[{n}]") for n, b in enumerate(blocks)]


def _system(conversation: Conversation, content: Any, where: str) -> None:
    _system_turn(conversation, _listed(content, where))


def _system_turn(conversation: Conversation, blocks: Sequence[Block]) -> None:
    texts = [_text(block, where) for block, where in blocks]
    said = "\n\n".join(text for text in texts if not text.startswith(BILLING))
    if said:
        conversation.instruct(said)


def _user_turn(conversation: Conversation, blocks: Sequence[Block]) -> None:
    """Results of tools come first, since in chat they follow the calls."""
    parts: list[Part] = []
    for block, where in blocks:
        if block.get("type") == "tool_result":
            _result(conversation, block, where)
        else:
            parts += _parts(block, where)
    if parts:
        conversation.user(parts)


def _assistant_turn(conversation: Conversation, blocks: Sequence[Block]) -> None:
    for block, where in blocks:
        kind = block.get("type")
        if kind == "tool_use":
            _call(conversation, block, where)
        elif kind not in ("thinking", "redacted_thinking"):  # not shown to the model again
            conversation.assistant(_text(block, where))


TURNS = {"user": _user_turn, "assistant": _assistant_turn, "system": _system_turn}


def _call(conversation: Conversation, block: Json, where: str) -> None:
    id, name = (text_of(block.get(key), f"{where}.{key}") for key in ("id", "name"))
    input = object_of(block.get("input"), f"{where}.input")
    conversation.call(id, name, orjson.dumps(input).decode())


def _result(conversation: Conversation, block: Json, where: str) -> None:
    id = text_of(block.get("tool_use_id"), f"{where}.tool_use_id")
    if not conversation.has_called(id):
        raise refusal(f"{where}.tool_use_id", "no tool_use block with this id comes before it")
    blocks = _listed(block.get("content") or "", f"{where}.content")
    conversation.result(id, [part for one, place in blocks for part in _parts(one, place)])


def _parts(block: Json, where: str) -> Iterator[Part]:
    kind = block.get("type")
    if kind == "image":
        yield _image(object_of(block.get("source"), f"{where}.source"), f"{where}.source")
    elif kind == "document":
        yield text_part(_document(block, where))
    elif kind == "search_result":
        content = _listed(block.get("content"), f"{where}.content")
        texts = [text_part(_text(one, place)) for one, place in content]
        yield text_part(f"{block.get('title', '')}\n{block.get('source', '')}\n{joined(texts)}")
    else:
        yield text_part(_text(block, where))


def _text(block: Json, where: str) -> str:
    if block.get("type") != "text":
        raise refusal(f"{where}.type", "content blocks of this type are not supported here")
    return text_of(block.get("text"), f"{where}.text")


def _image(source: Json, where: str) -> Part:
    if source.get("type") == "url":
        return image_part(text_of(source.get("url"), f"{where}.url"))
    if source.get("type") != "base64":
        raise refusal(f"{where}.type", "must be base64 or url")
    media, data = (text_of(source.get(k), f"{where}.{k}") for k in ("media_type", "data"))
    return image_part(f"data:{media};base64,{data}")


def _document(block: Json, where: str) -> str:
    """A document's text under its title; other forms go through this stack's own documents."""
    source = object_of(block.get("source"), f"{where}.source")
    if source.get("type") != "text":
        raise refusal(f"{where}.source.type", "only documents of plain text are supported here")
    text = text_of(source.get("data"), f"{where}.source.data")
    headings = [block[k] for k in ("title", "context") if isinstance(block.get(k), str)]
    return "\n".join([*headings, text])


def _thinking(request: Json) -> dict[str, Any]:
    """How much the model is to think, in chat's words: none, little or much."""
    effort = (request.get("output_config") or {}).get("effort")
    if effort is not None and effort not in EFFORTS:
        raise refusal("output_config.effort", f"must be one of {', '.join(EFFORTS)}")
    thinking = request.get("thinking") or {}
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if kind == "disabled":
        return {"reasoning_effort": "none"}
    if effort is not None:
        return {"reasoning_effort": "xhigh" if effort == "max" else effort}
    if kind == "enabled" and type(budget) is int:
        meant = (effort for most, effort in THOUGHT if budget <= most)
        return {"reasoning_effort": next(meant, "high")}
    return {}


def _format(request: Json) -> dict[str, Any]:
    format = (request.get("output_config") or {}).get("format") or request.get("output_format")
    if format is None:
        return {}
    if object_of(format, "output_config.format").get("type") != "json_schema":
        raise refusal("output_config.format.type", "must be json_schema")
    schema = object_of(format.get("schema"), "output_config.format.schema")
    named = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _tool_settings(request: Json) -> dict[str, Any]:
    """The tools, with the choice among them; what concerns tools is left out where none are."""
    tools = [_tool(tool, f"tools[{n}]") for n, tool in enumerate(request.get("tools") or ())]
    choice = request.get("tool_choice") or {}
    if not tools:
        if choice.get("type") in ("any", "tool"):
            raise refusal("tool_choice", "there are no tools to choose from")
        return {}
    chat: dict[str, Any] = {"tools": tools}
    if choice:
        chat["tool_choice"] = _choice(choice, [tool["function"]["name"] for tool in tools])
    if choice.get("disable_parallel_tool_use") is not None:
        chat["parallel_tool_calls"] = not choice["disable_parallel_tool_use"]
    return chat


def _tool(tool: Any, where: str) -> dict[str, Any]:
    tool = object_of(tool, where)
    if tool.get("type") not in (None, "custom"):
        raise refusal(f"{where}.type", "only tools with an input_schema are supported here")
    function = {
        "name": text_of(tool.get("name"), f"{where}.name"),
        "parameters": object_of(tool.get("input_schema"), f"{where}.input_schema"),
    }
    for name in ("description", "strict"):
        if tool.get(name) is not None:
            function[name] = tool[name]
    return {"type": "function", "function": function}


def _choice(choice: Json, names: Sequence[str]) -> str | dict[str, Any]:
    kind = str(choice.get("type"))
    if kind in CHOICES:
        return CHOICES[kind]
    if kind != "tool":
        raise refusal("tool_choice.type", "must be auto, any, tool or none")
    if choice.get("name") not in names:
        raise refusal("tool_choice.name", "there is no tool of this name")
    return {"type": "function", "function": {"name": choice["name"]}}
