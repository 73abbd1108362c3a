"""Malformed tool calls: what was seen in the field is repaired, what is valid is not touched."""

import json
import socket
import time
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ai_stack.services.inference.loose_json import loosely_read
from ai_stack.services.inference.loose_strings import Unreadable
from ai_stack.services.inference.repair import Repair, repaired, retried, retry_request
from ai_stack.services.inference.schemas import compiled
from tool_calls import TODO, TOOLS, rows, tool


def as_expected(row: dict) -> bool:
    repair = repaired(row["message"], TOOLS)
    calls = repair.message.get("tool_calls") or []
    told = [[c["function"]["name"], c["function"]["arguments"]] for c in calls]
    exact = [[n, json.loads(a)] for n, a in told if isinstance(a, str) and a] == row["expected"]
    return (
        exact
        and repair.changed
        and not repair.failed
        and repair.message.get("content") == row.get("left")
    )


def message(arguments: object, name: str = "get_weather", **more) -> dict:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call], **more}


def said(content: str) -> dict:
    return {"role": "assistant", "content": content}


def arguments_of(repair: Repair) -> list[object]:
    return [json.loads(call["function"]["arguments"]) for call in repair.message["tool_calls"]]


def test_at_least_45_of_50_kinds_seen_in_the_field_are_repaired() -> None:
    wrong = [row["kind"] for row in rows("malformed_calls.jsonl") if not as_expected(row)]
    total = len(rows("malformed_calls.jsonl"))
    assert total >= 50
    assert len(wrong) <= total / 10, f"{total - len(wrong)} of {total} repaired, not {wrong}"
    assert wrong == []


@pytest.mark.parametrize("name", ["held_out_calls.jsonl", "held_out_again.jsonl"])
def test_variants_of_the_kinds_are_repaired_or_fail_and_are_never_wrong(name: str) -> None:
    failed = []
    for row in rows(name):
        if not as_expected(row):
            failed.append(row)
            assert not repaired(row["message"], TOOLS).changed, row
    assert len(failed) <= len(rows(name)) / 10, f"{len(failed)} of {len(rows(name))} not repaired"


def test_arguments_that_are_escaped_once_too_often_are_read() -> None:
    written = r"{\"city\": \"Pa\u0072is \\\"Nord\\\"\", \"days\": 3}"
    repair = repaired(message(written), TOOLS)
    assert arguments_of(repair) == [{"city": 'Paris "Nord"', "days": 3}]
    assert "escaped-quotes" in repair.faults
    assert repaired(message(r'{\"city\": "Paris\"}'), TOOLS).failed


def test_every_fault_of_the_corpus_is_named() -> None:
    for row in rows("malformed_calls.jsonl"):
        assert repaired(row["message"], TOOLS).faults, row


def object_of(schema: dict) -> st.SearchStrategy:
    """Objects that a schema of the tools above takes."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "array":
        items = TODO if "$ref" in schema["items"] else schema["items"]
        return st.lists(object_of(items), max_size=3)
    if schema.get("type") == "object" and "properties" not in schema:
        return st.dictionaries(st.text(), object_of(schema["additionalProperties"]), max_size=3)
    if schema.get("type") == "object":
        known = {key: object_of(part) for key, part in schema["properties"].items()}
        needed = {key: known[key] for key in schema.get("required", [])}
        return st.fixed_dictionaries(
            needed, optional={key: part for key, part in known.items() if key not in needed}
        )
    return {"string": st.text(), "integer": st.integers(), "boolean": st.booleans()}.get(
        schema["type"], st.floats(allow_nan=False, allow_infinity=False)
    )


@st.composite
def valid_calls(draw: st.DrawFn) -> dict:
    function = draw(st.sampled_from(TOOLS))["function"]
    value = draw(object_of(function["parameters"]))
    text = json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 2])),
        separators=draw(st.sampled_from([(",", ":"), (" , ", " : "), None])),
    )
    return message(draw(st.sampled_from(["", " ", "\n"])) + text, function["name"])


@given(valid_calls())
@settings(max_examples=150, deadline=None)
def test_a_valid_call_is_the_same_object(call: dict) -> None:
    before = json.dumps(call)
    repair = repaired(call, TOOLS)
    assert repair.message is call
    assert (repair.changed, repair.faults, repair.failed) == (False, [], [])
    assert json.dumps(call) == before


@given(st.text() | st.text(alphabet="`{}[]<>/|()\"':,= \nabcget_weathrnmu", max_size=80))
@settings(max_examples=250, deadline=None)
def test_content_without_call_syntax_passes(content: str) -> None:
    assume("get_weather(" not in content)
    repair = repaired(said(content), TOOLS)
    assert repair.message["content"] == content
    assert not repair.changed


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_json_that_is_no_call_stays_content(value: object) -> None:
    content = json.dumps(value)
    assert repaired(said(content), TOOLS).message["content"] == content


@given(st.text(alphabet="`{}[]()\"'\\:,=+#/*\n aT1.<|>", max_size=60))
@settings(max_examples=250, deadline=None)
def test_whatever_comes_is_answered_and_what_is_repaired_is_valid(text: str) -> None:
    for function in ("get_weather", "update_todos", "list_files"):
        repair = repaired(message(text, function), TOOLS)
        if repair.failed:
            assert not repair.changed
            continue
        assert isinstance(arguments_of(repair)[0], dict)
        again = repaired(repair.message, TOOLS)
        assert again.message is repair.message, "a repaired call is a valid one"


@pytest.mark.parametrize(
    "content",
    [
        '{"name": "Ada", "arguments": {"city": "Paris"}}',
        '{"name": "get_weather"}',
        '{"name": "get_weather", "description": "Tells the weather", "parameters": {"city": "x"}}',
        '```json\n{"city": "Paris"}\n```',
        '{"city": "Paris"}',
        "Call it as `get_weather(city='Paris')`.",
        "You would write:\n```python\nget_weather(city='Paris')\n```",
        "Write `<tool_call>` before it, and `</tool_call>` behind.",
        'An example:\n```xml\n<tool_call>\n{"name": "get_weather", "arguments": '
        '{"city": "Paris"}}\n</tool_call>\n```\nThat is all.',
        'The call {"name": "get_weather", "arguments": {"city": "Paris"}} names a city.',
        '<think>\n<tool_call>{"name": "list_files", "arguments": {}}</tool_call>\n</think>\nNo.',
        "[1, 2, 3]",
        "getWeather is not needed here.",
    ],
)
def test_content_that_shows_json_or_code_stays_content(content: str) -> None:
    repair = repaired(said(content), TOOLS)
    assert (repair.message, repair.changed) == (said(content), False)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_weather", '{"city": '),
        ("get_weather", '{"city": }'),
        ("get_weather", '{"city": "Par'),
        ("get_weather", '{"city": "Paris",'),
        ("get_weather", '{"city": "Paris", "city": "Rome",}'),
        ("get_weather", "{}"),
        ("get_weather", '{"city": null}'),
        ("get_weather", '{"city": "Paris", "unit": "kelvin"}'),
        ("get_weather", '{"city": "Paris", "days": "a few"}'),
        ("get_weather", '{"city": "Paris", "days": NaN}'),
        ("get_weather", '{"city": "Paris", "days": 2.5}'),
        ("get_weather", '{"city": {"name": "Paris"}}'),
        ("get_weather", "Paris"),
        ("get_weather", '{"city": "Paris"} {"city": "Rome"}'),
        ("read_file", '{"filePath": "a", "line": 3}'),
        ("read_file", '{"file_path": "a", "FilePath": "b"}'),
        ("write_file", '{"path": "a", "content": {"a": 1}}'),
        ("lookup_order", '{"order_id": 1.50, "other": 1.5}'),
        ("drop_table", "{}"),
    ],
)
def test_what_has_no_one_reading_fails_and_is_not_invented(name: str, arguments: str) -> None:
    call = message(arguments, name)
    repair = repaired(call, TOOLS)
    assert repair.message is call
    assert len(repair.failed) == 1
    assert repair.failed[0].index == 0
    assert repair.failed[0].name == (None if name == "drop_table" else name)


def test_what_was_broken_off_is_not_closed() -> None:
    call = message('{"command": "rm -r build"', "run_command")
    assert repaired(call, TOOLS).changed
    assert repaired(call, TOOLS, cut=True).failed


def test_of_several_calls_only_the_malformed_ones_change() -> None:
    good, bad, lost = (
        message(text)["tool_calls"][0] for text in ('{"city":"A"}', "{'city': 'B'}", '{"city":')
    )
    repair = repaired({**message(""), "tool_calls": [good, bad, lost]}, TOOLS)
    assert repair.message["tool_calls"][0] is good
    assert repair.message["tool_calls"][1]["function"]["arguments"] == '{"city": "B"}'
    assert repair.message["tool_calls"][2] is lost
    assert [failed.index for failed in repair.failed] == [2]


def test_a_number_becomes_the_text_that_was_written() -> None:
    assert arguments_of(repaired(message('{"order_id": 1.10}', "lookup_order"), TOOLS)) == [
        {"order_id": "1.10"}
    ]


def test_only_tools_that_the_choice_allows_are_lifted() -> None:
    content = said('<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>')
    assert repaired(content, TOOLS).lifted
    assert not repaired(content, TOOLS, "none").changed
    forced = {"type": "function", "function": {"name": "list_files"}}
    assert not repaired(content, TOOLS, forced).changed
    assert not repaired(content, []).changed


def test_bare_arguments_are_a_call_only_where_one_function_must_be_called() -> None:
    forced = {"type": "function", "function": {"name": "get_weather"}}
    repair = repaired(said('{"city": "Paris"}'), TOOLS, forced)
    assert (arguments_of(repair), repair.message["content"]) == ([{"city": "Paris"}], None)
    assert not repaired(said('{"city": "Paris"}'), TOOLS, "required").changed


def test_a_schema_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "city.json").write_text('{"type": "string"}')
    tools = [tool("get_weather", {"city": {"$ref": (tmp_path / "city.json").as_uri()}})]
    call = message('{"city": 3}')
    assert repaired(call, tools).message is call


def test_a_schema_fetches_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/city.json"
        repaired(message('{"city": 3}'), [tool("get_weather", {"city": {"$ref": address}})])
        with pytest.raises(BlockingIOError):
            server.accept()


def test_what_would_take_long_to_read_is_refused() -> None:
    assert loosely_read("[" + "{'a': 1}, " * 10**3 + "]")
    with pytest.raises(Unreadable):
        loosely_read("[" + "{'a': 1}, " * 10**4 + "]")


@pytest.mark.parametrize(
    "parameters", [None, {}, {"type": "nonsense"}, {"$ref": "#"}, {"properties": 3}, []]
)
def test_what_is_no_schema_takes_any_object(parameters: object) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]
    assert not repaired(message('{"a": 1}'), tools).changed
    assert arguments_of(repaired(message("{'a': 1}"), tools)) == [{"a": 1}]


@pytest.mark.parametrize(
    "text",
    [
        *(mark * 10**5 for mark in ("[", "'", "\\", "<", "`")),
        *(part * 10**4 for part in ('{"a":', "```json\n", "<tool_call>", "/*", "\n{", "f(")),
        *('{"a": "' + '" x ' * 10**4, '{"path":[' + '{"a":"1"},' * 10**4, " " * 10**5 + "x"),
    ],
)
def test_hostile_text_takes_no_time(text: str) -> None:
    started = time.monotonic()
    repaired(message(text, "write_file"), TOOLS)
    repaired(said(text), TOOLS)
    assert time.monotonic() - started < 3


def test_a_failed_call_is_asked_for_again_under_its_schema() -> None:
    asked = {"role": "user", "content": "The weather in Paris?"}
    request = {"model": "m", "messages": [asked], "tools": TOOLS, "stream": True, "n": 1}
    repair = repaired(message('{"city": '), TOOLS)
    retry = retry_request(request, repair.failed[0])
    schema = retry["response_format"]["json_schema"]["schema"]
    assert schema == TOOLS[0]["function"]["parameters"]
    assert (retry["tool_choice"], retry["stream"], retry["tools"]) == ("none", False, TOOLS)
    assert retry["messages"][0]["content"].startswith("The weather in Paris?\n\n")
    assert asked["content"] == "The weather in Paris?", "the request itself stays"

    again = retried(repair, repair.failed[0], said('{"city": "Paris"}'), TOOLS)
    assert (arguments_of(again), again.failed) == ([{"city": "Paris"}], [])
    assert again.message["tool_calls"][0]["id"] == "call_1"
    assert retried(repair, repair.failed[0], said("I cannot."), TOOLS) is repair


def test_a_failed_call_of_the_content_is_replaced_too() -> None:
    repair = repaired(
        said('<tool_call>{"name": "get_weather", "arguments": {}}</tool_call>'), TOOLS
    )
    assert [failed.name for failed in repair.failed] == ["get_weather"]
    again = retried(repair, repair.failed[0], said('{"city": "Paris"}'), TOOLS)
    assert (arguments_of(again), again.message["content"]) == ([{"city": "Paris"}], None)


def test_an_unknown_function_cannot_be_asked_for_again() -> None:
    failed = repaired(message("{}", "drop_table"), TOOLS).failed[0]
    with pytest.raises(ValueError, match="known function"):
        retry_request({"messages": [], "tools": TOOLS}, failed)


def test_a_schema_that_unfolds_without_end_takes_any_object() -> None:
    pairs: dict[str, object] = {
        f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(60)
    }
    schema = {"$defs": {**pairs, "a60": {"type": "string"}}, "$ref": "#/$defs/a0"}
    began_s = time.perf_counter()
    assert compiled(schema).takes({"x": 1})
    assert time.perf_counter() - began_s < 1


def test_a_schema_may_lead_back_to_itself() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/a~1b"}}, "required": ["x"]}
    found = compiled({"$defs": {"a/b": node}, "$ref": "#/$defs/a~1b"})
    assert found.takes({"x": 1, "next": {"x": 2}})
    assert not found.takes({"x": 1, "next": {}})
