"""The Messages API as a dialect of chat, held against the models of the official client."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from ai_stack.errors import EngineFailed, InvalidRequest
from ai_stack.services.inference import messages, requests
from ai_stack.services.inference.message_events import MessageStream, error

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
ID = "msg_0123"
USER = {"role": "user", "content": "Hi"}
ASKED = {"model": "m", "max_tokens": 100, "messages": [USER]}
THINKING = {**ASKED, "thinking": {"type": "enabled", "budget_tokens": 2048}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "What the sky does.", "input_schema": SCHEMA}
FUNCTION = {"name": "weather", "description": "What the sky does.", "parameters": SCHEMA}
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 4},
}
COUNTED = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 7,
}


def strictly(adapter: Any, value: Any) -> Any:
    """What the client's model makes of a value; a field it does not know is an error."""
    kind = adapter.validate_python if isinstance(adapter, TypeAdapter) else adapter.model_validate
    made = kind(copy.deepcopy(value), strict=True)
    assert list(strangers(made)) == []
    return made


def strangers(value: object) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from value.model_extra or {}
        for name in type(value).model_fields:
            yield from strangers(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            yield from strangers(one)


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice], "usage": None}


def call(index: int, arguments: str = "", **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"index": index, **more, "function": {**name, "arguments": arguments}}


LAST = {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}


def streamed(
    chunks: Sequence[Any], request: Any = ASKED
) -> tuple[list[dict[str, Any]], MessageStream]:
    """The events of a stream, each valid, blocks one after another, and what made them."""
    stream = MessageStream(request, ID)
    events = [copy.deepcopy(e) for c in chunks for e in stream.feed(c)] + list(stream.finish())
    for event in events:
        if event["type"] not in ("ping", "error"):
            strictly(EVENT, event)
    open_block, following = None, 0
    for event in events:
        if event["type"] == "content_block_start":
            assert (open_block, event["index"]) == (None, following)
            open_block, following = following, following + 1
        elif event["type"] == "content_block_delta":
            assert event["index"] == open_block
        elif event["type"] == "content_block_stop":
            assert event["index"] == open_block
            open_block = None
    return events, stream


def accumulated(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The Message as the official client puts it together."""
    snapshot, buffers = None, {}
    for event in events:
        if event["type"] != "ping":
            snapshot = accumulate_event(
                event=strictly(EVENT, event), current_snapshot=snapshot, json_bufs=buffers
            )
    assert snapshot is not None
    return Message.model_validate(snapshot.model_dump(warnings=False)).model_dump()


def types(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def answer(finish: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"object": "chat.completion", "model": "m", "choices": [choice], "usage": USAGE}


def message(answer: Any, request: Any = ASKED) -> dict[str, Any]:
    made = messages.from_chat(request, answer, id=ID)
    strictly(Message, made)
    return made


# Requests


def test_every_setting_has_its_place_in_chat() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    request = {
        "model": "m",
        "max_tokens": 9,
        "messages": [USER],
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=1"},
            {"type": "text", "text": "Be short.", **cached},
            {"type": "text", "text": "Be kind."},
        ],
        "tools": [{**WEATHER, **cached, "type": "custom", "strict": True}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled", "budget_tokens": 8000},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "service_tier": "auto",
        "context_management": {"edits": []},
        "stream": True,
        **cached,
    }
    chat = messages.to_chat(request)
    named = {"name": "answer", "schema": SCHEMA, "strict": True}
    assert chat == {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "system", "content": "Be short.\n\nBe kind."}, USER],
        "tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "stop": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "user": "u",
        "reasoning_effort": "medium",
        "response_format": {"type": "json_schema", "json_schema": named},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    requests.checked("chat", chat)


def test_blocks_become_the_turns_of_a_conversation() -> None:
    image = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    turns = [
        {"role": "user", "content": "Rain?"},
        {"role": "user", "content": [{"type": "text", "text": "And wind?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Óslo"}},
                {"type": "tool_use", "id": "b", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "So?"},
                {"type": "tool_result", "tool_use_id": "b", "content": "dry"},
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "is_error": True,
                    "content": [
                        {"type": "text", "text": "a picture"},
                        {"type": "image", "source": image},
                    ],
                },
            ],
        },
        {"role": "system", "content": "It is late."},
    ]
    chat = messages.to_chat({**ASKED, "messages": turns, "tools": [WEATHER]})
    said = chat["messages"]
    assert [m["role"] for m in said] == [
        *("user", "assistant", "tool", "tool", "user", "user", "system")
    ]
    assert said[0]["content"] == "Rain?\nAnd wind?"
    assert said[1]["content"] == "Let me see."
    assert [c["function"]["arguments"] for c in said[1]["tool_calls"]] == ['{"city":"Óslo"}', "{}"]
    assert said[2] == {"role": "tool", "tool_call_id": "b", "content": "dry"}
    assert said[3] == {"role": "tool", "tool_call_id": "a", "content": "a picture"}
    url = "data:image/png;base64,iVBORw0KGgo="
    assert said[4]["content"] == [{"type": "image_url", "image_url": {"url": url}}]
    assert said[5]["content"] == "So?"
    requests.checked("chat", chat)


def test_images_and_documents_of_the_user_keep_their_place() -> None:
    content = [
        {"type": "text", "text": "before"},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {
            "type": "document",
            "title": "T",
            "source": {"type": "text", "media_type": "text/plain", "data": "D"},
        },
        {
            "type": "search_result",
            "title": "S",
            "source": "web",
            "content": [{"type": "text", "text": "found"}],
        },
    ]
    (said,) = messages.to_chat({**ASKED, "messages": [{"role": "user", "content": content}]})[
        "messages"
    ]
    assert said["content"] == [
        {"type": "text", "text": "before"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "text", "text": "T\nD"},
        {"type": "text", "text": "S\nweb\nfound"},
    ]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        (
            {"type": "tool", "name": "weather"},
            {"type": "function", "function": {"name": "weather"}},
        ),
    ],
)
def test_the_choice_of_tools(choice: Any, chosen: Any) -> None:
    chat = messages.to_chat({**ASKED, "tools": [WEATHER], "tool_choice": choice})
    assert chat["tool_choice"] == chosen
    assert "parallel_tool_calls" not in chat


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "none"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "xhigh"),
    ],
)
def test_how_much_to_think(fields: Any, effort: Any) -> None:
    assert messages.to_chat({**ASKED, **fields}).get("reasoning_effort") == effort


def said(role: str, *blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].role"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "weather"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        (said("user", {"type": "container_upload"}), "messages[0].content[0].type"),
        (said("user", {"type": "text"}), "messages[0].content[0].text"),
        (
            said("user", {"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].source.type",
        ),
        (
            said("user", {"type": "document", "source": {"type": "url", "url": "x"}}),
            "messages[0].content[0].source.type",
        ),
        (
            said("user", {"type": "tool_result", "tool_use_id": "a"}),
            "messages[0].content[0].tool_use_id",
        ),
        (
            said("assistant", {"type": "tool_use", "id": "a", "name": "b", "input": "{}"}),
            "messages[0].content[0].input",
        ),
        (said("assistant", {"type": "image"}), "messages[0].content[0].type"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(fields: Any, named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        messages.to_chat({**ASKED, **fields})
    assert list(refused.value.fields) == [named]


def test_a_request_is_counted_without_its_settings() -> None:
    request = {"model": "m", "messages": [USER], "system": "S", "tools": [WEATHER]}
    chat = messages.to_count(request)
    assert set(chat) == {"model", "messages", "tools"}


# Whole answers


def test_an_answer_becomes_a_complete_message() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"n": 1}'}},
        {"id": "", "type": "function", "function": {"name": "weather", "arguments": ""}},
    ]
    given = answer("tool_calls", content="See:", reasoning_content="Hm.", tool_calls=calls)
    made = message(given, THINKING)
    assert made["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "See:", "citations": None},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"n": 1}},
        {"type": "tool_use", "id": "toolu_012301", "name": "weather", "input": {}},
    ]
    assert (made["stop_reason"], made["usage"]) == ("tool_use", COUNTED)


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")],
)
def test_why_it_stopped(finish: str, reason: str) -> None:
    assert message(answer(finish, content="x"))["stop_reason"] == reason


def test_a_stop_sequence_is_told_where_the_engine_tells_it() -> None:
    given = answer(content="x")
    given["choices"][0]["stop_reason"] = "END"
    made = message(given, {**ASKED, "stop_sequences": ["END"]})
    assert (made["stop_reason"], made["stop_sequence"]) == ("stop_sequence", "END")
    made = message(given)
    assert (made["stop_reason"], made["stop_sequence"]) == ("end_turn", None)


@pytest.mark.parametrize("arguments", ["{", "[]", "no"])
def test_a_call_that_is_no_object_fails_unless_it_was_cut_off(arguments: str) -> None:
    calls = [{"id": "a", "function": {"name": "weather", "arguments": arguments}}]
    with pytest.raises(EngineFailed):
        message(answer("tool_calls", tool_calls=calls))
    made = message(answer("length", tool_calls=calls))
    assert (made["stop_reason"], made["content"][0]["input"]) == ("max_tokens", {})


def test_thoughts_are_for_those_who_asked() -> None:
    given = answer(content="x", reasoning_content="Hm.")
    hidden = {**ASKED, "thinking": {"type": "adaptive", "display": "omitted"}}
    for request in (ASKED, hidden, {**ASKED, "thinking": {"type": "disabled"}}):
        assert [b["type"] for b in message(given, request)["content"]] == ["text"]
    assert [b["type"] for b in message(given, THINKING)["content"]] == ["thinking", "text"]


# Streams


def test_a_text_is_streamed_in_the_official_order() -> None:
    chunks = [chunk(role="assistant", content=""), chunk(content="Hé"), chunk(content="llo")]
    events, stream = streamed([*chunks, chunk("stop"), LAST])
    assert types(events) == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2]["usage"] == COUNTED
    assert stream.message["content"][0]["text"] == "Héllo"


def test_thought_has_a_block_with_a_signature() -> None:
    chunks = [chunk(reasoning_content="Hm."), chunk(content="Hi"), chunk("stop"), LAST]
    events, _ = streamed(chunks, THINKING)
    deltas = [e["delta"]["type"] for e in events if e["type"] == "content_block_delta"]
    assert deltas == ["thinking_delta", "signature_delta", "text_delta"]


PARALLEL = [
    chunk(content="See: "),
    chunk(tool_calls=[call(0, id="a", type="function", name="weather")]),
    chunk(tool_calls=[call(0, '{"city"')]),
    chunk(tool_calls=[call(1, '{"ci', id="b", type="function", name="weather")]),
    chunk(tool_calls=[call(0, ': "Oslo"}'), call(1, 'ty": "Rom"}')]),
    chunk(content=" Done."),
    chunk("tool_calls"),
    LAST,
]


def test_parallel_calls_and_text_after_them_follow_one_another() -> None:
    events, stream = streamed(PARALLEL)
    assert accumulated(events)["content"] == Message(**stream.message).model_dump()["content"]
    assert [b.get("input") for b in stream.message["content"]] == [
        None,
        {"city": "Oslo"},
        {"city": "Rom"},
        None,
    ]
    first = [e for e in events if e.get("index") == 1]
    assert types(first)[:3] == ["content_block_start", *["content_block_delta"] * 2]


def test_what_the_engine_calls_a_stop_is_tool_use_where_tools_were_called() -> None:
    piece = call(0, "{}", id="a", name="weather")
    _, stream = streamed([chunk(tool_calls=[piece]), chunk("stop")])
    assert stream.message["stop_reason"] == "tool_use"


def test_a_refusal_is_text() -> None:
    _, stream = streamed([chunk(refusal="No."), chunk("content_filter")])
    assert stream.message["content"][0]["text"] == "No."
    assert stream.message["stop_reason"] == "refusal"


def test_a_stream_that_ends_without_a_reason_has_failed() -> None:
    events, _ = streamed([chunk(content="Hel")])
    assert types(events)[-1] == "error"
    assert events[-1]["error"]["type"] == "api_error"
    assert "message_stop" not in types(events)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("too_busy", "rate_limit_error"),
        ("engine_unavailable", "overloaded_error"),
        ("context_length_exceeded", "invalid_request_error"),
        ("engine_failed", "api_error"),
    ],
)
def test_a_failure_is_told_once_and_nothing_after_it(code: str, told: str) -> None:
    stream = MessageStream(ASKED, ID)
    (event,) = stream.fail(code, "Why.")
    assert (event["error"]["type"], event["error"]["message"]) == (told, "Why.")
    assert strictly(ErrorResponse, error(code, "Why.", "req_1")).error.type == told
    assert [*stream.fail("a", "b"), *list(stream.finish())[2:]] == []


def test_an_empty_answer_has_no_blocks() -> None:
    events, stream = streamed([chunk(content=""), chunk("stop"), LAST])
    assert types(events) == ["message_start", "ping", "message_delta", "message_stop"]
    assert stream.message["content"] == []


@given(
    thought=st.text(max_size=20),
    text=st.text(max_size=20),
    calls=st.lists(st.dictionaries(st.text(max_size=4), st.integers(0, 9), max_size=2), max_size=3),
    size=st.integers(1, 5),
    finish=st.sampled_from(["stop", "length", "tool_calls"]),
)
def test_a_stream_and_a_whole_answer_are_the_same(
    thought: str, text: str, calls: list[dict[str, int]], size: int, finish: str
) -> None:
    def cut(whole: str) -> list[str]:
        return [whole[n : n + size] for n in range(0, len(whole), size)]

    arguments = [orjson.dumps(one).decode() for one in calls]
    made = [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": one}}
        for n, one in enumerate(arguments)
    ]
    chunks = [chunk(reasoning_content=piece) for piece in cut(thought)]
    chunks += [chunk(content=piece) for piece in cut(text)]
    for n, one in enumerate(arguments):
        chunks += [chunk(tool_calls=[call(n, id=f"c{n}", name="f")])]
        chunks += [chunk(tool_calls=[call(n, piece)]) for piece in cut(one)]
    whole = answer(finish, content=text, reasoning_content=thought, tool_calls=made)
    events, stream = streamed([*chunks, chunk(finish), LAST], THINKING)
    assert stream.message == message(whole, THINKING)
    assert accumulated(events) == Message(**stream.message).model_dump()


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": [], "content": "x"}]},
        {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": {}}},
    ],
)
def test_what_stands_where_a_name_should_is_refused(fields: dict[str, Any]) -> None:
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}], **fields}
    with pytest.raises(InvalidRequest):
        messages.to_chat(body)
