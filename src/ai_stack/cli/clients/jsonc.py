"""JSON with comments, changed in place: what is not changed stays to the byte."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_stack.cli.clients.files import Malformed

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")"""
    r"""|(?P<mark>[{}\[\]:,])|(?P<word>[^\s{}\[\]:,"/]+)""",
    re.DOTALL,
)
DEEPEST = 100


@dataclass(slots=True)
class Node:
    """A value and where it stands; of an object its members, and whether a comma ends them."""

    start: int
    end: int = 0
    value: Any = None
    members: dict[str, "Node"] = field(default_factory=dict)
    comma: bool = False


def load(text: str) -> Any:
    """The value; Malformed names the line that is wrong. Empty text is an empty object."""
    return _parse(text).value if text.strip() else {}


def merge(text: str, wanted: Mapping[str, Any], path: Sequence[str] = ()) -> str:
    """The text with the wanted members set; objects are merged, all else is replaced."""
    text = text if text.strip() else "{}\n"
    for key, value in wanted.items():
        parent = _at(_parse(text), path)
        found = parent.members.get(key)
        if found is None:
            text = _inserted(text, parent, key, value)
        elif isinstance(value, Mapping) and isinstance(found.value, dict):
            text = merge(text, value, (*path, key))
        elif found.value != value:
            dumped = _dumped(value, _margin(text, found.start), _unit(text))
            text = text[: found.start] + dumped + text[found.end :]
    return text


def _at(node: Node, path: Sequence[str]) -> Node:
    for key in path:
        node = node.members[key]
    if not isinstance(node.value, dict):
        raise Malformed(f"{'.'.join(path) or 'its content'} is not an object")
    return node


def _inserted(text: str, parent: Node, key: str, value: Any) -> str:
    """With one more member at the end, laid out as the others are."""
    inside = text[parent.start + 1 : parent.end - 1]
    eol = "\r\n" if "\r\n" in text else "\n"
    margin, unit = _margin(text, parent.start), _unit(text)
    if parent.members and "\n" not in inside:
        return _spliced(text, parent, f" {json.dumps(key)}: {json.dumps(value)}", "")
    inner = _margin(text, next(iter(parent.members.values())).start) if parent.members else ""
    inner = inner if len(inner) > len(margin) else margin + unit
    member = f"{eol}{inner}{json.dumps(key)}: {_dumped(value, inner, unit, eol)}"
    return _spliced(text, parent, member, f"{eol}{margin}")


def _spliced(text: str, parent: Node, member: str, closing: str) -> str:
    last = max((m.end for m in parent.members.values()), default=parent.start + 1)
    comma = "," if parent.members and not parent.comma else ""
    end = max(len(text[: parent.end - 1].rstrip()), last)
    return f"{text[:last]}{comma}{text[last:end]}{member}{closing}{text[parent.end - 1 :]}"


def _dumped(value: Any, margin: str, unit: str, eol: str = "\n") -> str:
    lines = json.dumps(value, indent=unit, ensure_ascii=False).split("\n")
    return f"{eol}{margin}".join(lines)


def _margin(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 :]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    found = re.search(r"^[ \t]+(?=\S)", text, re.MULTILINE)
    return found[0] if found else "  "


def _parse(text: str) -> Node:
    tokens = _Tokens(text)
    node = _value(tokens, 0)
    if tokens.kind != "end":
        raise tokens.wrong()
    return node


class _Tokens:
    """The tokens one after the other; comments and blanks are passed over."""

    def __init__(self, text: str) -> None:
        self.source, self.position = text, 0
        self.advance()

    def advance(self) -> None:
        self.kind, self.text, self.start = "skip", "", self.position
        while self.kind == "skip":
            self._next()

    def _next(self) -> None:
        self.start = self.position
        if self.position == len(self.source):
            self.kind, self.text = "end", ""
            return
        found = TOKEN.match(self.source, self.position)
        if found is None:
            raise self.wrong()
        self.kind, self.text, self.position = str(found.lastgroup), found[0], found.end()

    def wrong(self) -> Malformed:
        return Malformed(f"line {self.source.count(chr(10), 0, self.start) + 1} is not JSON")


def _value(tokens: _Tokens, depth: int) -> Node:
    node = Node(tokens.start)
    if depth > DEEPEST:
        raise tokens.wrong()
    if tokens.text == "{":
        _members(tokens, node, depth)
    elif tokens.text == "[":
        _elements(tokens, node, depth)
    else:
        node.value = _scalar(tokens)
    node.end = tokens.position
    tokens.advance()
    return node


def _members(tokens: _Tokens, node: Node, depth: int) -> None:
    tokens.advance()
    while tokens.text != "}":
        if tokens.kind != "string":
            raise tokens.wrong()
        key = str(_scalar(tokens))
        tokens.advance()
        if tokens.text != ":":
            raise tokens.wrong()
        tokens.advance()
        node.members[key] = _value(tokens, depth + 1)
        node.comma = _comma(tokens, "}")
    node.value = {key: member.value for key, member in node.members.items()}


def _elements(tokens: _Tokens, node: Node, depth: int) -> None:
    tokens.advance()
    node.value = []
    while tokens.text != "]":
        node.value.append(_value(tokens, depth + 1).value)
        _comma(tokens, "]")


def _comma(tokens: _Tokens, closing: str) -> bool:
    """Whether a comma stands here; nothing but the end may stand in its place."""
    if tokens.text == ",":
        tokens.advance()
        return True
    if tokens.text != closing:
        raise tokens.wrong()
    return False


def _scalar(tokens: _Tokens) -> Any:
    if tokens.kind not in ("string", "word"):
        raise tokens.wrong()
    try:
        return json.loads(tokens.text)
    except ValueError:
        raise tokens.wrong() from None
