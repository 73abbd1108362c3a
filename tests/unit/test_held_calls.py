"""Streams with tool calls: what is no call passes at once, calls are repaired when complete."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_stack.services.inference.held_calls import MOST_BYTES, HeldCalls
from ai_stack.services.inference.repair import repaired
from tool_calls import TOOLS, rows


def event(delta: dict, finish: str | None = None, index: int = 0) -> tuple[dict, bytes]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return chunk, b"data:" + json.dumps(chunk, indent=0).encode().replace(b"\n", b"") + b"\r\n\r\n"


def of_text(parts: list[str], finish: str = "stop") -> list[tuple[dict, bytes]]:
    texts = [event({"content": part}) for part in parts]
    return [event({"role": "assistant"}), *texts, event({}, finish)]


def of_call(arguments: list[str], name: str = "get_weather") -> list[tuple[dict, bytes]]:
    head = {"index": 0, "id": "x1", "type": "function", "function": {"name": name, "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": part}} for part in arguments]
    deltas = [event({"tool_calls": [part]}) for part in (head, *parts)]
    return [event({"role": "assistant", "content": None}), *deltas, event({}, "tool_calls")]


def through(chunks: list[tuple[dict, bytes]], *choice: object) -> list[bytes]:
    held = HeldCalls(TOOLS, *choice)
    out = [data for chunk, raw in chunks for data in held.feed(chunk, raw)]
    return [*out, *held.close()]


def read(out: list[bytes]) -> tuple[str, list[dict], str | None]:
    """What a client makes of the chunks: the text, the calls, how it ended."""
    text, calls, finish = "", {}, None
    for data in out:
        for choice in json.loads(data.removeprefix(b"data:"))["choices"]:
            text += choice["delta"].get("content") or ""
            for part in choice["delta"].get("tool_calls") or []:
                call = calls.setdefault(part["index"], {"name": "", "arguments": ""})
                call["name"] += part["function"].get("name") or ""
                call["arguments"] += part["function"].get("arguments") or ""
            finish = choice["finish_reason"] or finish
    return text, [calls[index] for index in sorted(calls)], finish


def bytes_of(chunks: list[tuple[dict, bytes]]) -> list[bytes]:
    return [raw for _, raw in chunks]


def cut_up(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@given(st.lists(st.text(min_size=1), max_size=8), st.sampled_from(["stop", "length"]))
@settings(max_examples=100, deadline=None)
def test_text_passes_as_the_same_bytes(parts: list[str], finish: str) -> None:
    chunks = of_text(parts, finish)
    assert through(chunks) == bytes_of(chunks)


def test_each_chunk_of_plain_text_passes_at_once() -> None:
    held = HeldCalls(TOOLS)
    for chunk, raw in of_text(["Sure", ", 2 < 3", " and\n", "- x", " [1]", "\n\nFine. get"]):
        assert held.feed(chunk, raw) == [raw]


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": 42, "name": "get_weather"}',
        '{"name": "Ada", "born": 1815}',
        '[{"id": 7, "name": "Ada"}]',
        "```python\nget_weather(city='Paris')\n```\nis how.",
        '```json\n{"city": "Paris"}\n```',
        "get a coat, it is cold",
        "[get a coat](x)",
        "a <b> c [TOOL kit] <tool>",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 50])
def test_json_and_code_that_are_no_call_pass_before_they_end(text: str, size: int) -> None:
    chunks = of_text(cut_up(text + " and then some more, for the end." * 20, size))
    held = HeldCalls(TOOLS)
    before_the_end = [data for chunk, raw in chunks[:-1] for data in held.feed(chunk, raw)]
    assert before_the_end == bytes_of(chunks)[:-1]
    assert [*held.feed(*chunks[-1]), *held.close()] == bytes_of(chunks)[-1:]


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_valid_call_passes_as_the_same_bytes(size: int) -> None:
    chunks = of_call(cut_up('{ "city":"Paris", "days" : 3}', size))
    assert through(chunks) == bytes_of(chunks)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_malformed_call_comes_repaired(size: int) -> None:
    out = through(of_call(cut_up("{'city': 'Paris', 'days': '3'}", size)))
    assert read(out) == (
        "",
        [{"name": "get_weather", "arguments": '{"city": "Paris", "days": 3}'}],
        "tool_calls",
    )


@pytest.mark.parametrize("size", [1, 2, 5, 17, 1000])
def test_calls_in_the_content_are_lifted_as_they_are_without_a_stream(size: int) -> None:
    for row in rows("malformed_calls.jsonl"):
        if row["message"].get("tool_calls"):
            continue
        text, calls, finish = read(through(of_text(cut_up(row["message"]["content"], size))))
        told = [[call["name"], json.loads(call["arguments"])] for call in calls]
        assert (told, finish) == (row["expected"], "tool_calls"), row
        assert text.strip() == (row["left"] or ""), row


def test_text_before_a_call_passes_before_the_call_is_complete() -> None:
    held = HeldCalls(TOOLS)
    chunks = of_text(["Let me look.", "\n<tool", "_call>", '{"name": "list_files"', "}"])
    passed = [held.feed(*chunk) for chunk in chunks[:5]]
    assert [len(out) for out in passed] == [1, 1, 0, 0, 0]


def test_other_parts_of_held_chunks_and_usage_are_kept() -> None:
    first, raw = event(
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "tool_calls": [
                {
                    "index": 0,
                    "id": "x1",
                    "type": "function",
                    "function": {"name": "list_files", "arguments": ""},
                }
            ],
        }
    )
    last, end = event({}, "tool_calls")
    usage = {"id": "c1", "choices": [], "usage": {"total_tokens": 9}}
    out = through([(first, raw), (last, end), (usage, b"data: usage\n\n")])
    assert json.loads(out[0].removeprefix(b"data: "))["choices"][0]["delta"] == {
        "role": "assistant",
        "reasoning_content": "hm",
    }
    assert read(out[:-1])[1] == [{"name": "list_files", "arguments": "{}"}]
    assert out[-1] == b"data: usage\n\n"


def test_a_failed_call_waits_for_a_better_one_and_else_passes_as_it_came() -> None:
    chunks = of_call(['{"city": '])
    assert through(chunks) == bytes_of(chunks)

    held = HeldCalls(TOOLS)
    for chunk in chunks:
        out = held.feed(*chunk)
    assert out == []
    assert held.waiting[0].failed[0].name == "get_weather"
    better = {**held.waiting[0].message["tool_calls"][0]}
    better["function"] = {"name": "get_weather", "arguments": "{'city': 'Paris'}"}
    repair = repaired({"role": "assistant", "content": None, "tool_calls": [better]}, TOOLS)
    assert read(held.settle(0, repair))[1] == [
        {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    ]
    assert held.close() == []


def test_a_stream_that_breaks_off_gives_what_it_held() -> None:
    chunks = of_call(['{"city": "Par'])[:-1]
    assert through(chunks) == bytes_of(chunks)


def test_choices_of_one_stream_are_held_apart() -> None:
    call = {
        "index": 0,
        "id": "a",
        "type": "function",
        "function": {"name": "list_files", "arguments": ""},
    }
    chunks = [event({"tool_calls": [call]}, index=1), event({"content": "Hi"}), event({}, "stop")]
    held = HeldCalls(TOOLS)
    assert [len(held.feed(*chunk)) for chunk in chunks] == [0, 1, 1]
    assert read(held.feed(*event({}, "tool_calls", index=1)))[1][0]["arguments"] == "{}"


def test_what_is_too_long_to_hold_passes_as_it_came() -> None:
    chunks = of_call(['{"city": "', *["x" * 100_000] * 12])
    assert sum(map(len, bytes_of(chunks))) > MOST_BYTES
    assert through(chunks) == bytes_of(chunks)
