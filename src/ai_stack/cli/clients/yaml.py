"""YAML, changed in place: comments, order and layout of what is not changed stay to the byte."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from ai_stack.cli.clients.files import Malformed

Item: TypeAlias = tuple[str, str]  # of a list: the entry whose key has this value
Path: TypeAlias = tuple[str | Item, ...]


def load(text: str) -> Any:
    """The value, None for an empty text; Malformed names the line that is wrong."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Malformed(_where(error)) from None


def merge(
    text: str, wanted: Mapping[str, Any], absent: Mapping[str, Any] | None = None, path: Path = ()
) -> str:
    """The text with the wanted keys set, and of the `absent` ones those that are not there."""
    for key, value in (*wanted.items(), *(absent or {}).items()):
        present = _get(load(text), (*path, key))
        if present is None:
            text = _checked(text, _added(text, path, key, value), (*path, key), value)
        elif isinstance(value, Mapping) and isinstance(present, dict):
            text = merge(text, value, None, (*path, key))
        elif key in wanted and present != value:
            text = _checked(text, _replaced(text, path, key, value), (*path, key), value)
    return text


def upsert(
    text: str, path: Path, item: Item, wanted: Mapping[str, Any], absent: Mapping[str, Any]
) -> str:
    """As `merge`, into the entry of a list, which is appended when it is not there."""
    entry = {item[0]: item[1], **wanted, **absent}
    present = _get(load(text), path)
    if present is None and path:
        *above, key = path
        return merge(text, {str(key): [entry]}, path=tuple(above))
    if present is not None and not isinstance(present, list):
        raise Malformed(f"{_shown(path) or 'its content'} is not a list")
    if _get(load(text), (*path, item)) is not None:
        return merge(text, wanted, absent, (*path, item))
    return _checked(text, _appended(text, path, entry), (*path, item), entry)


def _get(data: Any, path: Path) -> Any:
    for step in path:
        if isinstance(step, tuple):
            found = (e for e in data or () if isinstance(e, dict) and e.get(step[0]) == step[1])
            data = next(found, None)
        elif data is not None and not isinstance(data, dict):
            raise Malformed(f"what holds {step} is not a mapping")
        else:
            data = (data or {}).get(step)
    return data


def _checked(before: str, after: str, path: Path, value: Any) -> str:
    """The new text, when it says what is wanted and all that the old one said."""
    try:
        data = load(after)
        kept = _get(data, path) == value and _without(data, path) == _without(load(before), path)
    except Malformed:
        kept = False
    if not kept:
        raise Malformed(f"{_shown(path)} cannot be set in it without changing what else it says")
    return after


def _without(data: Any, path: Path) -> Any:
    """A copy without what the path names, and without what is empty for that."""
    step, *rest = path
    if isinstance(data, dict):
        inner = _without(data[step], tuple(rest)) if rest and step in data else None
        kept = {key: value for key, value in data.items() if key != step}
        return {**kept, step: inner} if inner else kept or None
    if isinstance(data, list) and isinstance(step, tuple):
        others = [e for e in data if not (isinstance(e, dict) and e.get(step[0]) == step[1])]
        return ([_without(e, tuple(rest)) for e in data] if rest else others) or None
    return data or None


def _added(text: str, path: Path, key: str, value: Any) -> str:
    found = _pair(text, path, key)
    if found is not None:
        return _replaced(text, path, key, value)
    parent = _node(text, path)
    if parent is None or _is_null(parent):
        return _tail(text, _block({key: value}, 0))
    if not isinstance(parent, MappingNode):
        raise Malformed(f"{_shown(path) or 'its content'} is not a mapping")
    if parent.flow_style:
        return _flowing(text, parent, f"{json.dumps(key)}: {json.dumps(value)}")
    return _after(text, parent, _block({key: value}, parent.start_mark.column))


def _appended(text: str, path: Path, entry: Mapping[str, Any]) -> str:
    parent = _node(text, path)
    if parent is None or _is_null(parent):
        return _tail(text, _block([dict(entry)], 0))
    if not isinstance(parent, SequenceNode):
        raise Malformed(f"{_shown(path) or 'its content'} is not a list")
    if parent.flow_style and not parent.value and path:
        return _replaced(text, path[:-1], str(path[-1]), [dict(entry)])
    if parent.flow_style:
        return _flowing(text, parent, json.dumps(entry))
    return _after(text, parent, _block([dict(entry)], parent.start_mark.column))


def _replaced(text: str, path: Path, key: str, value: Any) -> str:
    pair = _pair(text, path, key)
    if pair is None:
        raise Malformed(f"{key} is not where it was")
    name, old = pair
    colon = text.index(":", name.end_mark.index) + 1
    start, end = max(old.start_mark.index, colon), max(_end(old), colon)
    end -= text[end - 1] == "\n"  # a literal block ends behind its last line
    if isinstance(value, dict | list) and not _in_flow(text, path):
        column = name.start_mark.column
        return text[:colon] + "\n" + _block(value, column + 2).rstrip("\n") + text[end:]
    gap = text[colon:start]
    return text[:colon] + (gap if gap and "\n" not in gap else " ") + _flow(value) + text[end:]


def _in_flow(text: str, path: Path) -> bool:
    node = _node(text, path)
    return isinstance(node, MappingNode) and bool(node.flow_style)


def _tail(text: str, block: str) -> str:
    return (text if not text or text.endswith("\n") else f"{text}\n") + block


def _after(text: str, parent: Node, block: str) -> str:
    """A block behind the last line of a block collection, and that line's comment."""
    at = _end(parent)
    if text[at - 1 : at] != "\n":
        line = text.find("\n", at)
        at = len(text) if line < 0 else line + 1
    return _tail(text[:at], block) + text[at:]


def _flowing(text: str, parent: Node, member: str) -> str:
    at = (
        _end(parent.value[-1] if isinstance(parent, SequenceNode) else parent.value[-1][1])
        if (parent.value)
        else parent.start_mark.index + 1
    )
    return f"{text[:at]}{', ' if parent.value else ''}{member}{text[at:]}"


def _end(node: Node) -> int:
    """Where a value ends; the marks of block collections lie behind the blanks that follow."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        # Of an alias one finds the value that it stands for, elsewhere; its key is where it is.
        return max(map(_end, last)) if isinstance(last, tuple) else _end(last)
    return int(node.end_mark.index)


def _node(text: str, path: Path) -> Node | None:
    node: Node | None = _composed(text)
    for step in path:
        if isinstance(step, tuple):
            node = _entry(node, step)
        else:
            node = next((v for k, v in _pairs(node) if k.value == step), None)
    return node


def _pair(text: str, path: Path, key: str) -> tuple[Node, Node] | None:
    return next(((k, v) for k, v in _pairs(_node(text, path)) if k.value == key), None)


def _pairs(node: Node | None) -> Sequence[tuple[Node, Node]]:
    return node.value if isinstance(node, MappingNode) else ()


def _entry(node: Node | None, item: Item) -> Node | None:
    entries = node.value if isinstance(node, SequenceNode) else ()
    return next((e for e in entries if any((k.value, v.value) == item for k, v in _pairs(e))), None)


def _composed(text: str) -> Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise Malformed(_where(error)) from None


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag.endswith(":null")


def _block(value: Any, column: int) -> str:
    dumped = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
    return "".join(f"{' ' * column}{line}\n" for line in dumped.removesuffix("\n").split("\n"))


def _flow(value: Any) -> str:
    listed = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10_000)
    return str(listed).strip()[1:-1]


def _shown(path: Path) -> str:
    return ".".join(step if isinstance(step, str) else step[1] for step in path)


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1} is not YAML" if mark is not None else "it is not YAML"
