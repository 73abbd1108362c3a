"""The Responses API as a dialect of chat, held against the models of the official client."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from ai_stack.caches.memory import MemoryCache
from ai_stack.database import Database
from ai_stack.errors import InvalidRequest
from ai_stack.models.inference import PLAIN, InferenceRecord
from ai_stack.models.principals import Principal
from ai_stack.services.inference import Inference, requests, responses
from ai_stack.services.inference.answers import Answers
from ai_stack.services.inference.dialect_calls import Responses
from ai_stack.services.inference.fleet import Fleet
from ai_stack.services.inference.journal import Journal
from ai_stack.services.inference.response_events import ResponseStream
from ai_stack.services.inference.routing import Router
from ai_stack.services.inference.stored import StoredResponses

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
ID = "resp_0123"
PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "What the sky does.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
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


def chunk(finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice], "usage": usage}


def call(index: int, arguments: str = "", **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"index": index, **more, "function": {**name, "arguments": arguments}}


LAST = {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}


def streamed(
    chunks: Sequence[Any], request: Any = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The events of a stream, each valid, in order and accumulated by the client; the Response."""
    stream = ResponseStream(request or {"model": "m", "input": "Hi"}, ID, 1_700_000_000)
    events = [copy.deepcopy(e) for c in chunks for e in stream.feed(c)] + list(stream.finish())
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        state.handle_event(strictly(EVENT, event))
    assert events[-1]["response"] == stream.response
    strictly(Response, stream.response)
    return events, stream.response


def types(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def answer(finish: str = "stop", usage: Any = USAGE, **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def response(request: Any, answer: Any) -> dict[str, Any]:
    made = responses.from_chat(request, answer, id=ID, created_at=1_700_000_000)
    strictly(Response, made)
    return made


# Requests


def test_a_text_becomes_a_message_after_the_instructions() -> None:
    chat = responses.to_chat({"model": "m", "input": "Hi", "instructions": "Be short."})
    assert chat["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
    ]


def test_every_setting_has_its_place_in_chat() -> None:
    chat = responses.to_chat(
        {
            "model": "m",
            "input": "Hi",
            "max_output_tokens": 5,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 3,
            "user": "u",
            "stream": True,
            "reasoning": {"effort": "max", "summary": "auto"},
            "text": {
                "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True},
                "verbosity": "low",
            },
            "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
            "top_logprobs": 2,
            "tools": [WEATHER],
            "tool_choice": {"type": "function", "name": "weather"},
            "parallel_tool_calls": False,
            "truncation": "auto",
            "store": False,
            "metadata": {"a": "b"},
            "background": False,
            "previous_response_id": None,
        }
    )
    function = {k: WEATHER[k] for k in ("name", "description", "strict", "parameters")}
    schema = {"name": "n", "schema": {}, "strict": True}
    assert chat == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "user": "u",
        "stream": True,
        "stream_options": {"include_usage": True},
        "reasoning_effort": "xhigh",
        "response_format": {"type": "json_schema", "json_schema": schema},
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
    }
    requests.checked("chat", chat)


def test_items_become_the_turns_of_a_conversation() -> None:
    items = [
        {"role": "developer", "content": "Use tools."},
        {"role": "user", "content": [{"type": "input_text", "text": "Rain?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "b", "output": "dry"},
        {
            "type": "function_call_output",
            "call_id": "a",
            "output": [
                {"type": "input_text", "text": "a picture"},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
            ],
        },
        {"type": "message", "role": "user", "content": "So?"},
    ]
    request = {"input": items, "instructions": "Be short.", "tools": [WEATHER]}
    chat = responses.to_chat(request)
    function = {"name": "weather", "arguments": "{}"}
    assert chat["messages"] == [
        {"role": "system", "content": "Be short.\n\nUse tools."},
        {"role": "user", "content": "Rain?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": function},
                {"id": "b", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "b", "content": "dry"},
        {"role": "tool", "tool_call_id": "a", "content": "a picture"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}],
        },
        {"role": "user", "content": "So?"},
    ]
    requests.checked("chat", chat)


def test_a_picture_from_a_tool_is_shown_before_the_assistant_speaks_of_it() -> None:
    picture = {"type": "input_image", "image_url": PNG, "detail": "low"}
    items = [
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": [picture]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Sure?"},
    ]
    said = responses.to_chat({"input": items})["messages"]
    assert [m["role"] for m in said] == ["assistant", "tool", "user", "assistant", "user"]


@pytest.mark.parametrize("url", [PNG, "https://example.org/a.png"])
def test_images_keep_their_place_among_texts(url: str) -> None:
    parts = [
        {"type": "input_text", "text": "before"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_text", "text": "after"},
    ]
    (message,) = responses.to_chat({"input": [{"role": "user", "content": parts}]})["messages"]
    assert [p["type"] for p in message["content"]] == ["text", "image_url", "text"]
    assert message["content"][1]["image_url"] == {"url": url, "detail": "auto"}


def test_only_allowed_tools_are_shown() -> None:
    other = {**WEATHER, "name": "other"}
    allowed = [{"type": "function", "name": "other"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    chat = responses.to_chat({"input": "Hi", "tools": [WEATHER, other], "tool_choice": choice})
    assert [t["function"]["name"] for t in chat["tools"]] == ["other"]
    assert chat["tool_choice"] == "required"
    requests.checked("chat", chat)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["Hi"]}, "input[0]"),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"role": "critic", "content": ""}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"type": "function_call", "call_id": "a"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "call_id": "a"}]}, "input[0].call_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"truncation": "middle"}, "truncation"),
        ({"include": ["secrets"]}, "include"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": "json"}, "text"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(fields: Any, named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        responses.to_chat({"model": "m", "input": "Hi", **fields})
    assert [name.startswith(named) for name in refused.value.fields] == [True]
    assert named in refused.value.message


def test_what_was_stored_goes_before_what_is_new() -> None:
    first = {"model": "m", "input": "Rain in Oslo?", "tools": [WEATHER]}
    calls = [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    made = response(first, answer("tool_calls", content=None, tool_calls=calls))
    stored = responses.input_items(first, id=ID)
    for item in (*stored, *made["output"]):
        strictly(ITEM, item)
    result = {"type": "function_call_output", "call_id": "a", "output": "rain"}
    second = {"input": [result], "previous_response_id": ID}
    chat = responses.to_chat(second, [*stored, *made["output"]])
    assert [m["role"] for m in chat["messages"]] == ["user", "assistant", "tool"]
    for item in responses.input_items(second, id="resp_4567"):
        strictly(ITEM, item)


def test_a_call_that_was_cut_off_is_not_shown_again() -> None:
    cut = {"type": "function_call", "call_id": "a", "name": "weather", "arguments": '{"ci'}
    chat = responses.to_chat({"input": "Hi"}, [{**cut, "status": "incomplete"}])
    assert [m["role"] for m in chat["messages"]] == ["user"]


def test_stored_items_of_every_kind_are_complete() -> None:
    items = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": [{"type": "input_image", "image_url": PNG, "detail": "low"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "rain"},
        {"type": "message", "id": "msg_mine", "role": "system", "content": "c"},
    ]
    stored = responses.input_items({"input": items}, id=ID)
    for item in stored:
        strictly(ITEM, item)
    assert len({item["id"] for item in stored}) == len(items)
    assert stored[-1]["id"] == "msg_mine"
    assert responses.to_chat({"input": items}) == responses.to_chat({"input": stored})


# Whole answers


def test_an_answer_becomes_a_complete_response() -> None:
    request = {
        "model": "m",
        "input": "Hi",
        "instructions": "Be short.",
        "tools": [WEATHER],
        "metadata": {"a": "b"},
        "text": {"format": {"type": "json_object"}},
        "reasoning": {"effort": "low"},
        "temperature": 0,
    }
    made = response(request, answer(content="Hello", reasoning_content="Think."))
    assert made["status"] == "completed"
    assert [item["type"] for item in made["output"]] == ["reasoning", "message"]
    assert made["output"][0]["content"] == [{"type": "reasoning_text", "text": "Think."}]
    assert strictly(Response, made).output_text == "Hello"
    assert made["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 18,
    }
    assert made["tools"] == [WEATHER]
    assert made["text"] == {"format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_off_is_incomplete(finish: str, reason: str) -> None:
    made = response({"input": "Hi"}, answer(finish, content="Hel"))
    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert made["output"][-1]["status"] == "incomplete"


def test_log_probabilities_are_told_with_their_bytes() -> None:
    told = {"token": "é", "logprob": -0.1, "id": 7, "top_logprobs": [{"token": "e", "logprob": -3}]}
    given = answer(content="é")
    given["choices"][0]["logprobs"] = {"content": [told]}
    part = response({"input": "Hi"}, given)["output"][0]["content"][0]
    top = {"token": "e", "bytes": [101], "logprob": -3}
    assert part["logprobs"] == [
        {"token": "é", "bytes": [195, 169], "logprob": -0.1, "top_logprobs": [top]}
    ]


# Streams


def test_a_text_is_streamed_in_the_official_order() -> None:
    events, made = streamed(
        [
            chunk(role="assistant", content=""),
            chunk(content="Hel"),
            chunk(content="lo"),
            chunk("stop"),
            LAST,
        ]
    )
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert made["output"][0]["content"][0]["text"] == "Hello"
    assert made["usage"]["input_tokens"] == 11
    assert events[0]["response"]["usage"] is None


def test_thought_comes_first_and_is_closed_before_the_text() -> None:
    chunks = [
        chunk(reasoning_content="Th"),
        chunk(reasoning_content="ink"),
        chunk(content="Hi"),
        chunk("stop"),
    ]
    events, made = streamed(chunks)
    assert types(events)[2:9] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
    ]
    assert [i["type"] for i in made["output"]] == ["reasoning", "message"]
    assert made["usage"] is None


PARALLEL = [
    chunk(content="See: "),
    chunk(tool_calls=[call(0, id="a", type="function", name="weather")]),
    chunk(tool_calls=[call(0, '{"city"')]),
    chunk(tool_calls=[call(1, '{"ci', id="b", type="function", name="weather")]),
    chunk(tool_calls=[call(0, ': "Oslo"}'), call(1, 'ty": "Rom"}')]),
    chunk(tool_calls=[call(1, "")]),
    chunk("tool_calls"),
    LAST,
]


def test_pieces_of_parallel_calls_may_alternate() -> None:
    events, made = streamed(PARALLEL, {"input": "Hi", "tools": [WEATHER]})
    calls = [i for i in made["output"] if i["type"] == "function_call"]
    assert [c["arguments"] for c in calls] == ['{"city": "Oslo"}', '{"city": "Rom"}']
    assert [c["call_id"] for c in calls] == ["a", "b"]
    added = [e for e in events if e["type"] == "response.output_item.added"]
    assert [e["item"]["type"] for e in added] == ["message", "function_call", "function_call"]
    assert all(e["item"].get("arguments", "") == "" for e in added)
    deltas = [e for e in events if e["type"].endswith("arguments.delta") and e["output_index"] == 2]
    assert "".join(e["delta"] for e in deltas) == '{"city": "Rom"}'
    assert types(events)[-5:] == [
        "function_call_arguments.done",
        "output_item.done",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


def test_text_after_calls_is_a_message_of_its_own() -> None:
    first = call(0, "{}", id="a", name="weather")
    chunks = [chunk(content="A"), chunk(tool_calls=[first]), chunk(content="B"), chunk("stop")]
    _, made = streamed(chunks)
    assert [i["type"] for i in made["output"]] == ["message", "function_call", "message"]
    assert made["output"][2]["content"][0]["text"] == "B"


def test_calls_without_index_or_with_one_index_for_all_are_told_apart() -> None:
    pieces = [
        {"id": "a", "function": {"name": "weather", "arguments": ""}},
        {"function": {"arguments": '{"n":'}},
        {"function": {"arguments": "1}"}},
        {"id": "b", "function": {"name": "weather", "arguments": {"n": 2}}},
    ]
    _, made = streamed([*(chunk(tool_calls=[p]) for p in pieces), chunk("tool_calls")])
    assert [i["arguments"] for i in made["output"]] == ['{"n":1}', '{"n":2}']
    same = [
        {"index": 0, "id": id, "function": {"name": "weather", "arguments": "{}"}} for id in "ab"
    ]
    _, made = streamed([*(chunk(tool_calls=[p]) for p in same), chunk("tool_calls")])
    assert [i["call_id"] for i in made["output"]] == ["a", "b"]


def test_a_call_is_shown_when_its_name_is_known() -> None:
    pieces = [call(0, "{", id="a"), call(0, "", name="weather"), call(0, "}")]
    events, made = streamed([*(chunk(tool_calls=[p]) for p in pieces), chunk("stop")])
    assert made["output"][0]["arguments"] == "{}"
    deltas = [e["delta"] for e in events if e["type"].endswith("arguments.delta")]
    assert deltas == ["{", "}"]


def test_a_refusal_is_a_part_of_the_message() -> None:
    events, made = streamed([chunk(content="Well. "), chunk(refusal="No."), chunk("stop")])
    assert [p["type"] for p in made["output"][0]["content"]] == ["output_text", "refusal"]
    assert {"refusal.delta", "refusal.done"} <= set(types(events))


def test_log_probabilities_wait_for_the_text_they_belong_to() -> None:
    def likely(content: str, *tokens: str) -> dict[str, Any]:
        made = chunk(content=content)
        told = [{"token": t, "bytes": [1], "logprob": -1.0, "top_logprobs": []} for t in tokens]
        made["choices"][0]["logprobs"] = {"content": told}
        return made

    chunks = [likely("", "\\xe2"), likely("é", "\\xa9"), likely("", "x"), chunk("stop")]
    events, made = streamed(chunks)
    deltas = [e for e in events if e["type"] == "response.output_text.delta"]
    assert [[p["token"] for p in e["logprobs"]] for e in deltas] == [["\\xe2", "\\xa9"]]
    part = made["output"][0]["content"][0]
    assert [p["token"] for p in part["logprobs"]] == ["\\xe2", "\\xa9", "x"]


def test_a_stream_that_ends_without_a_reason_has_failed() -> None:
    events, made = streamed([chunk(content="Hel")])
    assert types(events)[-1] == "failed"
    assert made["status"] == "failed"
    assert made["error"]["code"] == "server_error"
    assert made["error"]["type"] == "engine_broken"
    assert made["output"][0]["status"] == "incomplete"
    assert made["output"][0]["content"][0]["text"] == "Hel"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("too_busy", "rate_limit_exceeded"),
        ("engine_broken", "server_error"),
        ("context_length_exceeded", "invalid_prompt"),
    ],
)
def test_a_failure_is_told_once_and_nothing_after_it(code: str, told: str) -> None:
    stream = ResponseStream({"input": "Hi"}, ID, 1.5)
    events = [strictly(EVENT, e) for e in stream.fail(code, "Why.")]
    assert [e.type for e in events] == [
        "response.created",
        "response.in_progress",
        "response.failed",
    ]
    assert (events[-1].response.error.code, events[-1].response.error.message) == (told, "Why.")
    assert [*stream.feed(chunk(content="x")), *stream.fail("a", "b"), *stream.finish()] == []


def test_starting_early_is_starting_once() -> None:
    stream = ResponseStream({"input": "Hi"}, ID, 1)
    assert types([*stream.start(), *stream.start()]) == ["created", "in_progress"]
    assert types([*stream.feed(chunk(content="x"))])[0] == "output_item.added"


@given(
    thought=st.text(max_size=20),
    text=st.text(max_size=20),
    calls=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=3),
    size=st.integers(1, 5),
    finish=st.sampled_from(["stop", "length", "tool_calls"]),
)
def test_a_stream_and_a_whole_answer_are_the_same(
    thought: str, text: str, calls: list[tuple[str, str]], size: int, finish: str
) -> None:
    def cut(whole: str) -> list[str]:
        return [whole[n : n + size] for n in range(0, len(whole), size)]

    chunks = [chunk(reasoning_content=piece) for piece in cut(thought)]
    chunks += [chunk(content=piece) for piece in cut(text)]
    for n, (name, arguments) in enumerate(calls):
        chunks += [chunk(tool_calls=[call(n, id=f"c{n}", type="function", name=name)])]
        chunks += [chunk(tool_calls=[call(n, piece)]) for piece in cut(arguments)]
    made = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    whole = answer(finish, content=text, reasoning_content=thought, tool_calls=made)
    request = {"model": "m", "input": "Hi"}
    assert streamed([*chunks, chunk(finish), LAST])[1] == response(request, whole)


# Bodies of this form that come to /chat/completions


def test_a_body_with_input_becomes_a_chat_request() -> None:
    body = {
        "model": "m",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "tools": [WEATHER, {"type": "custom", "name": "patch"}],
        "tool_choice": "auto",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_output_tokens": 9,
        "reasoning": {"effort": "low"},
        "include": [],
        "store": False,
        "prompt_cache_retention": "24h",
        "presence_penalty": 0.5,
        "text": {"verbosity": "low"},
    }
    assert responses.looks_like(body)
    chat = responses.as_chat(body)
    assert set(chat) == {
        *("model", "messages", "tools", "tool_choice", "stream", "stream_options", "max_tokens"),
        *("reasoning_effort", "presence_penalty"),
    }
    assert [t["function"]["name"] for t in chat["tools"]] == ["weather"]
    requests.checked("chat", chat)


def test_a_chat_body_with_flat_tools_keeps_the_rest() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    flat = {"name": "weather", "input_schema": {"type": "object"}}
    body = {"messages": messages, "tools": [flat], "n": 2, "top_logprobs": 1}
    assert responses.looks_like(body)
    function = {"name": "weather", "parameters": {"type": "object"}}
    assert responses.as_chat(body) == {
        "messages": messages,
        "n": 2,
        "top_logprobs": 1,
        "tools": [{"type": "function", "function": function}],
    }


def test_a_plain_chat_body_does_not_look_like_one() -> None:
    nested = {"type": "function", "function": {"name": "weather"}}
    assert not responses.looks_like({"messages": [], "tools": [nested]})
    assert not responses.looks_like({"messages": [], "input": "x"})
    assert not responses.looks_like({})


@pytest.mark.parametrize("name", ["tools", "include"])
def test_a_body_of_this_form_that_came_to_chat_is_refused_for_what_is_no_list(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        responses.as_chat({"input": "hello", name: 5})


async def test_what_is_no_id_is_followed_by_nothing() -> None:
    database = cast(Database, None)  # it is never asked
    inference = Inference(
        Fleet(()), Router(1), Answers(MemoryCache(), 1), Journal(_unwritten), timeout_s=1
    )
    service = Responses(inference, StoredResponses(database))
    with pytest.raises(InvalidRequest, match="previous_response_id"):
        await service.open({"input": "x", "previous_response_id": 5}, Principal(), PLAIN)


async def _unwritten(records: Sequence[InferenceRecord]) -> None:
    """Nothing is logged."""
