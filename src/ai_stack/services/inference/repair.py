"""Malformed tool calls of local models, made well-formed; what is well-formed is left as it is.

It knows messages and schemas, and neither engines nor HTTP. A call that has more than one reading,
or none, fails: its caller may ask the engine once more, for exactly that function under a grammar.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from uuid import uuid4

from ai_stack.services.inference.call_bodies import ARGUMENT_KEYS
from ai_stack.services.inference.call_syntax import Passage, without, written_calls
from ai_stack.services.inference.fitting import Unfit, fitted
from ai_stack.services.inference.functions import Function, Functions
from ai_stack.services.inference.loose_json import loosely_read, strictly_read
from ai_stack.services.inference.loose_strings import Unreadable

Message: TypeAlias = Mapping[str, object]
Tools: TypeAlias = Sequence[Mapping[str, object]]

_DROPPED = ("stream_options", "parallel_tool_calls", "logprobs", "top_logprobs", "stop", "n")


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call that could not be repaired, why, and where it stands.

    `name` is that of a function of the request, None where the model named none of them. `index`
    is its place among the message's calls, None for a call that was left in the content.
    """

    name: str | None
    reason: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of a message: the very same object where nothing had to be changed.

    `lifted`: calls were taken out of the content, so that the answer ends for `tool_calls`.
    """

    message: Message
    changed: bool = False
    lifted: bool = False
    faults: list[str] = field(default_factory=list)
    failed: list[FailedCall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call with what was found wrong in it."""

    function: Function
    arguments: str
    faults: frozenset[str]


class _Failure(ValueError):
    """Says why a call cannot be repaired."""

    def __init__(self, reason: str, name: str | None) -> None:
        super().__init__(reason)
        self.name = name


def repaired(
    message: Message, tools: Tools, tool_choice: object = None, *, cut: bool = False
) -> Repair:
    """An assistant's message with well-formed calls of the request's tools.

    `cut` tells that the answer was broken off (`finish_reason` "length"): what is not closed then
    is not closed by guesswork.
    """
    functions = Functions(tools, tool_choice)
    calls = message.get("tool_calls")
    if isinstance(calls, Mapping):
        calls = [calls]
    if isinstance(calls, list) and calls:
        return _with_calls(message, calls, Functions(tools), cut)
    content = message.get("content")
    if isinstance(content, str) and content and functions:
        return _lifted(message, content, functions, cut)
    return Repair(message)


def retry_request(chat_request: Mapping[str, object], failed: FailedCall) -> dict[str, object]:
    """The request that has one call's arguments written anew, under a grammar from its schema.

    It constrains the answer by `response_format`, which llama.cpp and vLLM both enforce, whereas a
    named `tool_choice` is not by llama.cpp (ggml-org/llama.cpp#26535), and `required` not always
    (ggml-org/llama.cpp#27217). The prompt keeps its beginning, and so its place in the engine's
    cache. The answer's content are the arguments: give it to `retried`.
    """
    functions = Functions(_tools(chat_request))
    function = functions.find(failed.name) if failed.name else None
    if function is None:
        raise ValueError("only a call of a known function can be asked for again")
    schema = {"name": "arguments", "strict": True, "schema": dict(function.schema().schema)}
    request = {key: value for key, value in chat_request.items() if key not in _DROPPED}
    request["messages"] = _asked(chat_request.get("messages"), function.name)
    request["tool_choice"] = "none"
    request["response_format"] = {"type": "json_schema", "json_schema": schema}
    request["stream"] = False
    return request


def retried(repair: Repair, failed: FailedCall, answer: Message, tools: Tools) -> Repair:
    """The repair with one failed call replaced by what the engine answered when asked again."""
    choice = {"type": "function", "function": {"name": failed.name}}
    calls = repaired(answer, tools, choice).message.get("tool_calls")
    if not isinstance(calls, list) or not calls or repaired(answer, tools, choice).failed:
        return repair
    message = dict(repair.message)
    own = list(message.get("tool_calls") or [])  # type: ignore[call-overload]
    if failed.index is None:
        own.append(calls[0])
        message["content"] = None if len(repair.failed) == 1 else message.get("content")
    else:
        own[failed.index] = {**own[failed.index], "function": calls[0]["function"]}
    message["tool_calls"] = own
    return replace(
        repair,
        message=message,
        changed=True,
        lifted=repair.lifted or failed.index is None,
        faults=[*repair.faults, "written-anew"],
        failed=[other for other in repair.failed if other is not failed],
    )


def _with_calls(
    message: Message, calls: Sequence[object], functions: Functions, cut: bool
) -> Repair:
    """The message with each of its calls repaired in its place."""
    faults: set[str] = set()
    failed: list[FailedCall] = []
    mended: list[object] = []
    for index, call in enumerate(calls):
        try:
            mended.append(_well_formed(call, functions, faults, cut))
        except _Failure as error:
            failed.append(FailedCall(error.name, str(error), index))
            mended.append(call)
    if all(new is old for new, old in zip(mended, calls, strict=True)):
        return Repair(message, failed=failed)
    changed = {**message, "tool_calls": mended}
    return Repair(changed, changed=True, faults=sorted(faults), failed=failed)


def _well_formed(call: object, functions: Functions, faults: set[str], cut: bool) -> object:
    """The call in OpenAI's form: the same object where it already is."""
    if not isinstance(call, dict):
        raise _Failure("the call is no object", None)
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    key = next((key for key in ARGUMENT_KEYS if key in inner), "arguments")
    found = _understood(str(inner.get("name")), inner.get(key), functions, cut)
    own = set(found.faults)
    if inner is call or key != "arguments":
        own.add("call-form")
    if not call.get("id") or call.get("type") != "function":
        own.add("call-form")
    if not own:
        return call
    faults |= own
    return {
        **{name: value for name, value in call.items() if name not in (*ARGUMENT_KEYS, "name")},
        "id": call.get("id") or _new_id(),
        "type": "function",
        "function": {"name": found.function.name, "arguments": found.arguments},
    }


def _understood(name: str, arguments: object, functions: Functions, cut: bool) -> _Call:
    """A call by name and arguments, in whatever form these came."""
    function = functions.find(name)
    if function is None:
        raise _Failure("the request has no such function", None)
    faults = set() if name == function.name else {"function-name"}
    schema = function.schema()
    value, found = _value(arguments, function.name, cut)
    if not found and isinstance(arguments, str) and schema.takes(value):
        return _Call(function, arguments, frozenset(faults))
    if not isinstance(arguments, str | None):
        found = found | {"arguments-object"}
    source = arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)
    try:
        fit, mended = fitted(value, schema, source)
        return _Call(function, _written(fit), frozenset(faults | found | mended))
    except Unfit as error:
        raise _Failure(str(error), function.name) from None
    except ValueError:
        raise _Failure("a number is none of JSON", function.name) from None


def _value(arguments: object, name: str, cut: bool) -> tuple[object, set[str]]:
    """What arguments are as a value, and what was wrong with their text."""
    if not isinstance(arguments, str) or not arguments.strip():
        return arguments, set()
    try:
        return strictly_read(arguments), set()
    except Unreadable:
        pass
    for text in _readings(arguments):
        try:
            value, found = loosely_read(text, cut=cut)
        except Unreadable:
            continue
        if not (isinstance(value, str) and "unquoted-value" in found):
            return value, found or {"text-around"}
    raise _Failure("the arguments are no JSON", name)


def _readings(text: str) -> list[str]:
    """The text; what its braces hold, where prose stands around; members without braces."""
    first, last = text.find("{"), text.rfind("}")
    readings = [text]
    if first > 0:
        readings.append(text[first : last + 1] if last > first else text[first:])
    if first < 0 and ("=" in text or ":" in text):
        readings.append("{" + text.strip().removeprefix("(").removesuffix(")") + "}")
    return readings


def _written(value: dict[str, object]) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if text.isascii() or _encodable(text) else json.dumps(value, allow_nan=False)


def _encodable(text: str) -> bool:
    """Whether it holds no half of a surrogate pair, which only escapes can write."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _lifted(message: Message, content: str, functions: Functions, cut: bool) -> Repair:
    """The message with the calls of its content among its calls."""
    passages = written_calls(content, lambda name: functions.find(name) is not None, cut=cut)
    faults: set[str] = {"call-in-content"}
    failed: list[FailedCall] = []
    calls: list[_Call] = []
    taken: list[Passage] = []
    for passage in passages:
        try:
            calls += [_understood(c.name or "", c.arguments, functions, cut) for c in passage.calls]
            faults |= {fault for call in passage.calls for fault in call.faults}
            taken.append(passage)
        except _Failure as error:
            failed += [FailedCall(error.name, str(error))] if passage.sure else []
    if not passages and functions.forced and (forced := _bare_arguments(content, functions, cut)):
        calls, taken = [forced], [Passage(0, len(content), ())]
    if not calls:
        return Repair(message, failed=failed)
    faults |= {fault for call in calls for fault in call.faults}
    changed = {
        **message,
        "content": without(content, taken),
        "tool_calls": [_as_call(call) for call in calls],
    }
    return Repair(changed, changed=True, lifted=True, faults=sorted(faults), failed=failed)


def _bare_arguments(content: str, functions: Functions, cut: bool) -> _Call | None:
    """A content that is nothing but the arguments of the one function that must be called."""
    if functions.forced is None or not content.strip().startswith(("{", "```")):
        return None
    try:
        return _understood(functions.forced.name, content, functions, cut)
    except _Failure:
        return None


def _as_call(call: _Call) -> dict[str, object]:
    return {
        "id": _new_id(),
        "type": "function",
        "function": {"name": call.function.name, "arguments": call.arguments},
    }


def _new_id() -> str:
    return f"call_{uuid4().hex[:24]}"


def _tools(chat_request: Mapping[str, object]) -> Tools:
    tools = chat_request.get("tools")
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def _asked(messages: object, name: str) -> list[object]:
    """The messages with the wish at the end of the last: a further one may break a template."""
    wish = f"Call the function {name}: answer with its arguments as JSON, and nothing else."
    asked = list(messages) if isinstance(messages, list) else []
    last = dict(asked[-1]) if asked and isinstance(asked[-1], dict) else {"role": "user"}
    content = last.get("content")
    if isinstance(content, list):
        last["content"] = [*content, {"type": "text", "text": wish}]
    else:
        last["content"] = f"{content}\n\n{wish}" if content else wish
    return [*asked[:-1], last]
