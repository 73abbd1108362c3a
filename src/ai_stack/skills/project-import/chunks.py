"""A file as chunks: one for each symbol, one for what stands outside of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tree_sitter import Node

from .grammars import Grammar, Kind, grammar_of, parser_of

MAX_CLASS = 6_000  # characters; a longer class is cut into its methods
COMMENTS = ("# ", "#[", "//", "/*", "* ", "*/", "@")  # and Rust's attributes; no `#include`
MAX_SYMBOL, MAX_DEPTH, MAX_LINE = 200, 4, 5_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of a file, from 1 and with the last; `symbol` is empty for what is none."""

    path: str
    language: str
    symbol: str
    kind: Kind
    start_line: int
    end_line: int
    text: str


def chunks_of(path: str, text: str) -> list[Chunk]:
    """The chunks of a file; names that occur more than once are numbered."""
    lines = text.splitlines()
    grammar = grammar_of(path)
    language = grammar.name if grammar else PurePosixPath(path).suffix.lower().lstrip(".") or "text"
    if grammar is None or max(map(len, lines), default=0) > MAX_LINE:  # no one wrote such lines
        return [Chunk(path, language, "", "text", 1, len(lines), text)]
    root = parser_of(PurePosixPath(path).suffix.lower()).parse(text.encode()).root_node
    spans = [*_spans(root, grammar, (), lines, 0)]
    seen = Counter[str]()
    found: list[Chunk] = []
    for span in spans:
        seen[span.symbol] += 1
        number = f"~{seen[span.symbol]}" if seen[span.symbol] > 1 else ""
        body = "\n".join(lines[span.start - 1 : span.end])
        symbol = span.symbol + number
        found.append(Chunk(path, language, symbol, span.kind, span.start, span.end, body))
    return [*_outside(path, language, lines, found), *found]


@dataclass(frozen=True, slots=True)
class Span:
    """A symbol's lines."""

    symbol: str
    kind: Kind
    start: int
    end: int


def _spans(
    parent: Node, grammar: Grammar, above: tuple[str, ...], lines: Sequence[str], depth: int
) -> Iterator[Span]:
    """The symbols among a node's children; a long class gives its members instead."""
    last = 0
    for outer in parent.named_children:
        node = _symbol(outer, grammar)
        if node is None:
            continue
        name = _name(node)
        start, end = _lines(outer, lines, last)
        if not name or start <= last:
            continue
        kind = grammar.symbols[node.type]
        kind = "method" if above and kind == "function" else kind
        body = node.child_by_field_name("body") or _block(node)
        long = sum(map(len, lines[start - 1 : end])) > MAX_CLASS
        inner: list[Span] = []
        if kind == "class" and long and body is not None and depth < MAX_DEPTH:
            inner = [*_spans(body, grammar, (*above, name), lines, depth + 1)]
        if inner:
            head = max(start, inner[0].start - 1)
            yield Span(".".join((*above, name)), kind, start, head)
            yield from (span for span in inner if span.start > head)
        else:
            yield Span(".".join((*above, name)), kind, start, end)
        last = end


def _symbol(node: Node, grammar: Grammar) -> Node | None:
    """The symbol that a node is, or wraps."""
    for _ in range(MAX_DEPTH):
        if node.type in grammar.symbols:
            return node if _declares(node) else None
        if node.type not in grammar.wrappers:
            return None
        held = [c for c in node.named_children if c.type in grammar.symbols
                or c.type in grammar.wrappers]  # fmt: skip
        if len(held) != 1:
            return None
        node = held[0]
    return None


def _declares(node: Node) -> bool:
    """Whether it has a body of its own; `const a = 1` and `struct s x;` have none."""
    if node.type == "variable_declarator":
        value = node.child_by_field_name("value")
        return value is not None and value.type in ("arrow_function", "function_expression")
    if node.type.endswith("_specifier"):
        return node.child_by_field_name("body") is not None
    return True


def _name(node: Node) -> str:
    """The symbol's name; a Go method and a Rust impl are named with their type."""
    name = node.child_by_field_name("name")
    if name is None:
        name = node.child_by_field_name("declarator") or node.child_by_field_name("type")
    while name is not None and (inner := name.child_by_field_name("declarator")):
        name = inner
    text = (name.text or b"").decode(errors="replace") if name else ""
    receiver = node.child_by_field_name("receiver")
    if receiver is not None:
        words = (receiver.text or b"").decode(errors="replace").strip("()").split()
        text = f"{words[-1].lstrip('*')}.{text}" if words else text
    return " ".join(text.split())[:MAX_SYMBOL]


def _block(node: Node) -> Node | None:
    return next((c for c in node.named_children if c.type.endswith(("body", "_list"))), None)


def _lines(node: Node, lines: Sequence[str], last: int) -> tuple[int, int]:
    """The lines of a symbol, with the comments directly above it."""
    start, end = node.start_point.row + 1, node.end_point.row + 1
    if node.end_point.column == 0 and end > start:
        end -= 1
    while start - 1 > last and lines[start - 2].lstrip().startswith(COMMENTS):
        start -= 1
    return start, end


def _outside(
    path: str, language: str, lines: Sequence[str], found: Sequence[Chunk]
) -> Iterator[Chunk]:
    """What stands outside of all symbols, together: imports, constants, the file's own words."""
    inside = {n for chunk in found for n in range(chunk.start_line, chunk.end_line + 1)}
    rest = [(n, line) for n, line in enumerate(lines, 1) if n not in inside]
    if any(line.strip() for _, line in rest):
        written = [n for n, line in rest if line.strip()]
        text = "\n".join(line for n, line in rest if written[0] <= n <= written[-1])
        yield Chunk(path, language, "", "text", written[0], written[-1], text)
