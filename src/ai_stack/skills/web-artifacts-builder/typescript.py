"""Takes the types out of TypeScript: what is erased becomes spaces, so lines stay where they were.

What would need code to be made (enums, namespaces, parameter properties, JSX) is refused.
"""

import re
from collections.abc import Iterator

import tree_sitter_javascript
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

from ai_stack.skill import SkillFailed

WHOLE = {
    "type_annotation",
    "type_predicate_annotation",
    "asserts_annotation",
    "opting_type_annotation",
    "omitting_type_annotation",
    "type_parameters",
    "type_arguments",
    "implements_clause",
    "accessibility_modifier",
    "override_modifier",
    "interface_declaration",
    "type_alias_declaration",
    "ambient_declaration",
    "function_signature",
    "abstract_method_signature",
    "method_signature",
    "index_signature",
}
WORDS = {"abstract", "readonly", "declare"}
MADE = {
    "enum_declaration": "an enum",
    "internal_module": "a namespace",
    "module": "a namespace",
    "import_alias": "`import … = `",
    "decorator": "a decorator",
    "jsx_element": "JSX",
    "jsx_self_closing_element": "JSX",
}


class NeedsCompiler(SkillFailed):
    """The code is more than its types can be erased from."""

    def __init__(self, name: str, line: int, what: str) -> None:
        super().__init__(f"{name}:{line} has {what}, which only esbuild can turn into JavaScript.")


def parsed(code: bytes, *, typed: bool = False) -> Node:
    """The tree of a module."""
    known = (
        tree_sitter_typescript.language_typescript() if typed else tree_sitter_javascript.language()
    )
    return Parser(Language(known)).parse(code).root_node


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it, in the order of the text; without recursion."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(reversed(one.children))


def erased(code: str, name: str) -> str:
    """The module in JavaScript; NeedsCompiler, or SkillFailed for what is no TypeScript."""
    source = code.encode()
    root = parsed(source, typed=True)
    if fault := next((n for n in walk(root) if n.is_error or n.is_missing), None):
        raise SkillFailed(f"{name}:{fault.start_point.row + 1} is no TypeScript that can be read.")
    out = bytearray(source)
    for start, end in _spans(root, name):
        out[start:end] = re.sub(rb"[^\r\n]", b" ", source[start:end])
    return _without_unused(out.decode())


def _spans(root: Node, name: str) -> Iterator[tuple[int, int]]:
    """The parts that are types. What is below an erased node is not looked at."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        _refuse_made(node, name)
        span = _span(node)
        if span is not None:
            yield span
            if node.type in WHOLE or _is_type_only(node):
                continue
        waiting.extend(node.children)


def _refuse_made(node: Node, name: str) -> None:
    what = MADE.get(node.type)
    modified = node.type == "required_parameter" and any(
        c.type in ("accessibility_modifier", "readonly", "override_modifier") for c in node.children
    )
    if (what and node.is_named) or modified:
        line = node.start_point.row + 1
        raise NeedsCompiler(name, line, what or "a property that is declared as a parameter")


def _span(node: Node) -> tuple[int, int] | None:
    """What of a node goes: all of it, or a part that its kind says."""
    parent = node.parent.type if node.parent else ""
    if node.type in WHOLE or _is_type_only(node):
        return node.start_byte, node.end_byte
    if node.type in ("as_expression", "satisfies_expression"):
        return node.children[0].end_byte, node.end_byte
    if node.type in WORDS and not node.is_named and parent != "pair":
        return node.start_byte, node.end_byte
    if node.type == "!" and parent in ("non_null_expression", "variable_declarator"):
        return node.start_byte, node.end_byte
    if node.type == "!" and parent == "public_field_definition":
        return node.start_byte, node.end_byte
    if node.type == "?" and parent in (
        "optional_parameter",
        "public_field_definition",
        "method_definition",
    ):
        return node.start_byte, node.end_byte
    return None


def _is_type_only(node: Node) -> bool:
    """Imports and exports of types, declared fields, a `this` parameter."""
    kinds = [child.type for child in node.children]
    if node.type in ("import_statement", "export_statement"):
        inner = node.child_by_field_name("declaration")
        declared = inner is not None and inner.type in WHOLE
        return "type" in kinds[:2] or declared
    if node.type in ("import_specifier", "export_specifier"):
        return kinds[0] == "type" and len(kinds) > 1
    if node.type == "public_field_definition":
        return "declare" in kinds or "abstract" in kinds
    return node.type == "required_parameter" and kinds[0] == "this"


def _without_unused(code: str) -> str:
    """Names that were imported for their type only are no longer used, and not there to import.

    Commas that are left behind go too.
    """
    source = code.encode()
    root = parsed(source)
    used = {
        n.text
        for n in walk(root)
        if n.type in ("identifier", "shorthand_property_identifier") and not _imported(n)
    }
    out = bytearray(source)
    for node in reversed(root.children):
        clause = next((c for c in node.children if c.type == "import_clause"), None)
        if node.type == "import_statement" and clause is not None:
            kept = _kept(clause, used)
            start, end = (
                (clause.start_byte, clause.end_byte)
                if kept
                else (
                    node.start_byte,
                    node.end_byte,
                )
            )
            lines = source[start:end].count(b"\n")
            out[start:end] = _padded(kept.encode() + b"\n" * lines, end - start)
    return out.decode()


def _padded(text: bytes, length: int) -> bytes:
    return text.ljust(length)


def _imported(node: Node) -> bool:
    parent = node.parent
    while parent is not None and parent.type != "program":
        if parent.type == "import_statement":
            return True
        parent = parent.parent
    return False


def _kept(clause: Node, used: set[bytes | None]) -> str:
    """An import's clause with the names that are used; empty when none is."""
    parts: list[str] = []
    for child in clause.children:
        text = (child.text or b"").decode()
        name = child.children[-1].text if child.type == "namespace_import" else child.text
        if child.type in ("identifier", "namespace_import") and name in used:
            parts.append(text)
        elif child.type == "named_imports":
            names = [s for s in child.children if s.type == "import_specifier"]
            kept = [(s.text or b"").decode() for s in names if s.children[-1].text in used]
            if kept:
                parts.append("{ " + ", ".join(kept) + " }")
    return ", ".join(parts)
