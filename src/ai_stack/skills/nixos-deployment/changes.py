"""What differs between two configurations: option by option, and what deserves a look."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tree_sitter import Node

from ai_stack.skill import JSON

from .syntax import parsed

What: TypeAlias = Literal["added", "removed", "changed"]
MAX_DEPTH, MAX_VALUE = 30, 400
# Options that lock people out, open a machine or keep it from booting when they are wrong.
RISKS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), why)
    for pattern, why in (
        (r"system\.stateVersion$", "It tells which release first set the machine up; it stays."),
        (r"services\.openssh(\.|$)", "It decides who can log in from afar."),
        (r"networking\.(firewall|nftables)\b", "It decides what is reachable from the network."),
        (r"networking\.(interfaces|hostName|defaultGateway|useDHCP|networkmanager)\b",
         "A mistake takes the machine off the network."),
        (r"boot\.(loader|initrd|kernel)", "A mistake keeps the machine from booting."),
        (r"(fileSystems|swapDevices)\b", "A mistake keeps the machine from booting."),
        (r"users\.(users|mutableUsers|groups)\b", "It decides who has an account and what rights."),
        (r"security\.(sudo|doas|polkit|pam)\b", "It decides who becomes the administrator."),
        (r"nixpkgs\.|(^|\.)inputs\.", "It changes where packages come from."),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """An option's value as it is written, without comments; `items` where it is a list."""

    value: str
    line: int
    items: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One option that differs, in a sentence for people."""

    what: What
    option: str
    told: str
    line: int
    risk: str

    def to_json(self) -> dict[str, JSON]:
        return {
            "what": self.what,
            "option": self.option,
            "told": self.told,
            "line": self.line,
            "risk": self.risk,
        }


def between(before: str, after: str) -> list[Change]:
    """What leads from one text to the other, in the order of the options' names."""
    old, new = options_of(before), options_of(after)
    return [*_changes(old, new)]


def options_of(text: str) -> dict[str, Option]:
    """Every option that a file sets, by its whole path."""
    found: dict[str, Option] = {}
    for path, node in _leaves(parsed(text).root_node, (), 0):
        key = ".".join(path) or "(file)"
        while key in found:
            key += "'"
        found[key] = Option(_written(node)[:MAX_VALUE], node.start_point.row + 1, _items(node))
    return found


def _leaves(
    node: Node, path: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Attributes whose values are no sets, with the path that leads there."""
    inner = _within(node)
    if inner is None or depth > MAX_DEPTH:
        yield path, node
        return
    for binding in inner:
        steps = binding.child_by_field_name("attrpath")
        value = binding.child_by_field_name("expression")
        if steps is not None and value is not None:
            names = tuple(_written(step).strip('"') for step in steps.named_children)
            yield from _leaves(value, path + names, depth + 1)
        elif binding.type.startswith("inherit"):
            yield (*path, _written(binding).rstrip(";")), binding


def _within(node: Node) -> list[Node] | None:
    """The bindings of what is, in the end, a set; None for all else."""
    for _ in range(MAX_DEPTH):
        if node.type in ("attrset_expression", "rec_attrset_expression"):
            held = [c for c in node.named_children if c.type == "binding_set"]
            found = [b for c in held for b in c.named_children if b.type != "comment"]
            return found or None
        inner = {
            "source_code": "expression",
            "function_expression": "body",
            "let_expression": "body",
            "with_expression": "body",
            "parenthesized_expression": "expression",
        }.get(node.type)
        below = node.child_by_field_name(inner) if inner else None
        if below is None:
            return None
        node = below
    return None


def _items(node: Node) -> tuple[str, ...] | None:
    while node.type == "with_expression" and (body := node.child_by_field_name("body")):
        node = body
    if node.type != "list_expression":
        return None
    return tuple(_written(c) for c in node.named_children if c.type != "comment")


def _written(node: Node) -> str:
    """A node's text without comments, its spaces made one where they mean nothing."""
    if node.type in ("string_expression", "indented_string_expression") or not node.children:
        return (node.text or b"").decode(errors="replace")
    parts = [_written(child) for child in node.children if child.type != "comment"]
    tight = node.type in ("select_expression", "attrpath", "path_expression", "unary_expression")
    return ("" if tight else " ").join(filter(None, parts))


def _changes(old: Mapping[str, Option], new: Mapping[str, Option]) -> Iterator[Change]:
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if after is None and before is not None:
            told = f"{key} is no longer set; it was {before.value}."
            yield Change("removed", key, told, before.line, risk_of(key))
        elif before is None and after is not None:
            told = f"{key} is now {after.value}."
            yield Change("added", key, told, after.line, risk_of(key))
        elif before and after and (before.value, before.items) != (after.value, after.items):
            yield Change("changed", key, _told(key, before, after), after.line, risk_of(key))


def _told(key: str, before: Option, after: Option) -> str:
    if before.items is None or after.items is None:
        return f"{key} was {before.value}, and is now {after.value}."
    more = [item for item in after.items if item not in before.items]
    less = [item for item in before.items if item not in after.items]
    parts = [f"gains {', '.join(more)}" if more else "", f"loses {', '.join(less)}" if less else ""]
    return f"{key} {' and '.join(filter(None, parts)) or 'has another order'}."[: 4 * MAX_VALUE]


def risk_of(option: str) -> str:
    """Why a change of an option deserves a look; empty for most."""
    return next((why for pattern, why in RISKS if pattern.search(option)), "")
