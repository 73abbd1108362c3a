"""What stands between the marks of a call: JSON, Python, XML, or a name before its arguments."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ai_stack.services.inference.loose_json import loosely_read
from ai_stack.services.inference.loose_strings import Unreadable

MARKED_NAME = r"[\w.:/-]{1,128}"
NAME_KEYS = ("name", "tool", "tool_name", "function_name", "function")
ARGUMENT_KEYS = ("arguments", "parameters", "args", "params", "input", "tool_input", "kwargs")
_OTHER_KEYS = frozenset({"type", "id", "index", "call_id", "tool_call_id"})
_LIST_KEYS = ("tool_calls", "function_calls", "tool_call", "function_call")
MOST_CALLS = 64

_XML_FUNCTION = re.compile(rf"\s*<(?:function=|invoke name=\"?)(?P<name>{MARKED_NAME})\"?>")
_XML_END = re.compile(
    r"\s*(?:</function>|</invoke>|\Z)|(?=\s*(?:<function=|<invoke |</tool_call>))"
)
_XML_KEY = re.compile(r"\s*<parameter(?:=| name=\"?)(?P<key>[\w.-]{1,128})\"?>")
_XML_VALUE_END = re.compile(
    r"</parameter>|(?=<parameter[= ])|(?=</function>)|(?=</invoke>)|(?=</tool_call>)|\Z"
)
_XML_JSON_END = re.compile(r"</function>|</invoke>|<function=|</tool_call>|\Z")
_GLM_NAME = re.compile(rf"\s*({MARKED_NAME})\s*(?=<arg_key>)")
_GLM = re.compile(r"<arg_key>([^<]*)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.S)
_NAMED = re.compile(
    r"\s*(?:call:|function(?=<｜))?(?:<｜tool▁sep｜>)?\s*"
    rf"(?P<name>[A-Za-z_]{MARKED_NAME})\s*"
    r"(?:<｜tool▁sep｜>|<\|tool_call_argument_begin\|>|\[CALL_ID\]\w*)?\s*(?:\[ARGS\])?\s*"
    r"(?P<body>[`{].*|)\Z",
    re.S,
)
_NAME_IN_JSON = re.compile(rf"[\"'](?:name|tool|function)[\"']\s*:\s*[\"']({MARKED_NAME})[\"']")
_LONGEST_PYTHON = 32 * 1024
_JSON_NAMES = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as it was read; `arguments` is text where that could not be read.

    `whole`: it is nothing but a call, with its name and arguments.
    """

    name: str | None
    arguments: object
    faults: frozenset[str] = frozenset()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Body:
    """A text read from `start` on; `cut` where it was broken off."""

    text: str
    start: int
    cut: bool


def calls_in(body: Body) -> list[WrittenCall]:
    """The calls that a body stands for; with one whose name is unknown, where it is unreadable."""
    text = body.text.strip().removeprefix("functools").strip()
    if glm := _glm_call(text):
        return [glm]
    if text[:1] not in ("{", "[", "`", "'"):
        return python_calls(text) or _named_call(text)
    try:
        value, faults = loosely_read(text, cut=body.cut)
    except Unreadable:
        name = _NAME_IN_JSON.search(text)
        return python_calls(text) or [WrittenCall(name and name[1], text, whole=False)]
    return json_calls([value], frozenset(faults)) or python_calls(text)


def leading_json(text: str, at: int) -> tuple[list[object], int]:
    """The JSON values at a position, one behind another, and where they end."""
    values: list[object] = []
    end = at
    decoder = json.JSONDecoder()
    for _ in range(MOST_CALLS):
        start = _blank_end(text, end, ";," if values else "")
        if text[start : start + 1] not in ("{", "["):
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return [], at
        values.append(value)
    return values, end


def json_calls(values: list[object], faults: frozenset[str] = frozenset()) -> list[WrittenCall]:
    """The calls that JSON values name."""
    found = [call for value in values for call in _from_json(value, faults, 0)]
    return found[:MOST_CALLS]


def _from_json(value: object, faults: frozenset[str], depth: int) -> Iterator[WrittenCall]:
    if isinstance(value, list) and depth < 4:
        for item in value:
            yield from _from_json(item, faults, depth + 1)
    elif isinstance(value, dict) and depth < 4:
        for key in (*_LIST_KEYS, "function"):
            if isinstance(value.get(key), list | dict):
                yield from _from_json(value[key], faults, depth + 1)
                return
        if call := _record(value, faults):
            yield call


def _record(value: dict[str, object], faults: frozenset[str]) -> WrittenCall | None:
    name_key = next((key for key in NAME_KEYS if isinstance(value.get(key), str)), None)
    key = next((key for key in ARGUMENT_KEYS if key in value), None)
    if name_key is None:
        return None
    rest = value.keys() - {name_key, key} - _OTHER_KEYS
    own = {"parameters-key"} if key not in ("arguments", None) else set()
    arguments = value.get(key) if key else None
    return WrittenCall(str(value[name_key]), arguments, faults | own, not rest and key is not None)


def python_calls(text: str) -> list[WrittenCall]:
    """The calls of a text that is nothing but Python calls with literal arguments."""
    if (
        len(text) > _LONGEST_PYTHON
        or "(" not in text
        or not text.rstrip("`; \n").endswith((")", "]"))
    ):
        return []
    try:
        lines = ast.parse(text.strip()).body
        return [call for line in lines for call in _from_python(line)]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return []


def _from_python(node: ast.AST) -> Iterator[WrittenCall]:
    """Raises ValueError for anything that is not a call with literal arguments."""
    if isinstance(node, ast.Expr):
        yield from _from_python(node.value)
    elif isinstance(node, ast.List | ast.Tuple) and node.elts:
        for item in node.elts:
            yield from _from_python(item)
    elif not isinstance(node, ast.Call):
        raise ValueError("no call")
    elif isinstance(node.func, ast.Name) and node.func.id == "print" and len(node.args) == 1:
        yield from _from_python(node.args[0])
    else:
        yield WrittenCall(ast.unparse(node.func), _python_arguments(node), frozenset({"pythonic"}))


def _python_arguments(node: ast.Call) -> object:
    if node.args and node.keywords:
        raise ValueError("positional arguments have no names")
    if node.args:
        return [_literal(item) for item in node.args]
    return {_keyword(item): _literal(item.value) for item in node.keywords}


def _keyword(item: ast.keyword) -> str:
    if item.arg is None:
        raise ValueError("arguments from elsewhere")
    return item.arg


def _literal(node: ast.expr) -> object:
    """The value of a literal that JSON knows too, with JSON's own names for three."""
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            str(_literal(k)): _literal(v) for k, v in zip(node.keys, node.values, strict=True) if k
        }
    value: object = ast.literal_eval(node)
    if not isinstance(value, str | int | float | None):
        raise ValueError("not of JSON")
    return value


def xml_calls(text: str, at: int) -> tuple[list[WrittenCall], int] | None:
    """The calls at a position with their parameters as XML, and where they end."""
    calls: list[WrittenCall] = []
    while (opened := _XML_FUNCTION.match(text, at)) and len(calls) < MOST_CALLS:
        arguments, at = _xml_parameters(text, opened.end())
        calls.append(WrittenCall(opened["name"], arguments, frozenset({"xml-parameters"})))
        closed = _XML_END.match(text, at)
        at = closed.end() if closed else at
    return (calls, at) if calls else None


def _xml_parameters(text: str, at: int) -> tuple[object, int]:
    """The parameters by name, as texts; or JSON, which Llama writes there."""
    if not _XML_KEY.match(text, at):
        end = _ends(_XML_JSON_END, text, at).start()
        return text[at:end].strip(), end
    values: dict[str, object] = {}
    while key := _XML_KEY.match(text, at):
        ended = _ends(_XML_VALUE_END, text, key.end())
        values[key["key"]] = _xml_text(text[key.end() : ended.start()])
        at = ended.end()
    return values, at


def _ends(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.search(text, at)
    assert found, "the end of a text always matches"
    return found


def _xml_text(value: str) -> str:
    """Without the line breaks that the format puts around a value."""
    if value.startswith("\n"):
        return value[1:].removesuffix("\n")
    return value.strip()


def _glm_call(text: str) -> WrittenCall | None:
    name = _GLM_NAME.match(text)
    if name is None:
        return None
    return WrittenCall(name[1], dict(_GLM.findall(text)), frozenset({"xml-parameters"}))


def _named_call(text: str) -> list[WrittenCall]:
    """A name before its arguments, with or without marks between them."""
    named = _NAMED.match(text)
    return [WrittenCall(named["name"], named["body"].strip())] if named else []


def _blank_end(text: str, at: int, beside: str = "") -> int:
    while at < len(text) and (text[at].isspace() or text[at] in beside):
        at += 1
    return at
