"""Both dialects over a real llama.cpp: what it streams and what it answers whole is understood."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

import engines
from ai_stack.services.inference import messages, requests, responses
from ai_stack.services.inference.message_events import MessageStream
from ai_stack.services.inference.response_events import ResponseStream

SAYS = "Let me see, é 😀."
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Óslo"}}\n</tool_call>'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"type": "function", "name": "weather", "parameters": SCHEMA}
ASKED = {"model": "memory", "input": "Hi", "temperature": 0}
TOLD = {"model": "memory", "max_tokens": 200, "temperature": 0,
        "messages": [{"role": "user", "content": "Hi"}]}  # fmt: skip
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with engines.llama_cpp("says", say=f"{SAYS}\n{CALL}") as url:
        yield url


def answer(url: str, chat: Mapping[str, Any]) -> dict[str, Any]:
    body = requests.checked("chat", chat)
    answered = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert answered.status_code == 200, answered.text
    return answered.json()


def chunks(url: str, chat: Mapping[str, Any]) -> list[Any]:
    streamed = {**chat, "stream": True, "stream_options": {"include_usage": True}}
    body = requests.checked("chat", streamed)
    answered = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert answered.status_code == 200, answered.text
    return [event for event in engines.events(answered.content) if event != "[DONE]"]


def response(url: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The Response, which is the same whole and streamed but for what was in the cache."""
    chat = responses.to_chat(request)
    whole = responses.from_chat(request, answer(url, chat), id="resp_1", created_at=1)
    stream = ResponseStream(request, "resp_1", 1)
    events = [event for chunk in chunks(url, chat) for event in stream.feed(chunk)]
    for event in orjson.loads(orjson.dumps([*events, *stream.finish()])):
        EVENT.validate_python(event, strict=True)
    assert {**stream.response, "usage": 0, "output": 0} == {**whole, "usage": 0, "output": 0}
    assert without_ids(stream.response["output"]) == without_ids(whole["output"])
    Response.model_validate(whole, strict=True)
    return stream.response


def without_ids(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**item, "call_id": ""} for item in output]


def message(url: str, request: Mapping[str, Any]) -> dict[str, Any]:
    chat = messages.to_chat(request)
    whole = messages.from_chat(request, answer(url, chat), id="msg_1")
    stream = MessageStream(request, "msg_1")
    events = [event for chunk in chunks(url, chat) for event in stream.feed(chunk)]
    for event in orjson.loads(orjson.dumps([*events, *stream.finish()])):
        if event["type"] != "ping":
            MESSAGE_EVENT.validate_python(event, strict=True)
    assert [b["type"] for b in stream.message["content"]] == [b["type"] for b in whole["content"]]
    Message.model_validate(whole, strict=True)
    return stream.message


def test_a_text_and_a_call_of_responses(url: str) -> None:
    made = response(url, {**ASKED, "tools": [FUNCTION]})
    said, called = made["output"]
    assert said["content"][0]["text"].strip() == SAYS
    assert called["name"] == "weather"
    assert orjson.loads(called["arguments"]) == {"city": "Óslo"}
    assert made["status"] == "completed"
    assert made["usage"]["output_tokens"] > 10


def test_a_follow_up_of_responses(url: str) -> None:
    first = response(url, {**ASKED, "tools": [FUNCTION]})
    id = first["output"][1]["call_id"]
    request = {**ASKED, "tools": [FUNCTION], "input": [
        {"role": "user", "content": "Hi"}, *first["output"],
        {"type": "function_call_output", "call_id": id, "output": "rain"}]}  # fmt: skip
    assert response(url, request)["status"] == "completed"


def test_a_response_that_is_cut_off_and_its_log_probabilities(url: str) -> None:
    include = ["message.output_text.logprobs"]
    request = {**ASKED, "max_output_tokens": 3, "include": include, "top_logprobs": 2}
    made = response(url, request)
    assert made["incomplete_details"] == {"reason": "max_output_tokens"}
    (part,) = made["output"][0]["content"]
    assert "".join(token["token"] for token in part["logprobs"]) == part["text"]
    assert [len(token["top_logprobs"]) for token in part["logprobs"]] == [2, 2, 2]


def test_a_text_and_a_call_of_messages(url: str) -> None:
    tool = {"name": "weather", "input_schema": SCHEMA}
    made = message(url, {**TOLD, "tools": [tool], "system": "S"})
    said, called = made["content"]
    assert said["text"].strip() == SAYS
    assert (called["name"], called["input"]) == ("weather", {"city": "Óslo"})
    assert made["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": called["id"], "content": "rain"}
    turns = [*TOLD["messages"], {"role": "assistant", "content": made["content"]},
             {"role": "user", "content": [result]}]  # fmt: skip
    assert message(url, {**TOLD, "tools": [tool], "messages": turns})["stop_reason"] == "tool_use"


def test_a_message_that_is_cut_off(url: str) -> None:
    made = message(url, {**TOLD, "max_tokens": 2})
    assert (made["stop_reason"], made["usage"]["output_tokens"]) == ("max_tokens", 2)
