"""How complex and how long functions are, in seven languages, and where their grammar breaks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

import tree_sitter_c
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

from .findings import Finding, Severity
from .sources import Source


@dataclass(frozen=True, slots=True)
class Grammar:
    """Which nodes of a language are functions, and which decide between two ways."""

    language: object
    functions: frozenset[str]
    decisions: frozenset[str]
    strict: bool = True  # whether an error of the grammar is one of the code


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SCRIPT_FUNCTIONS = _words(
    "function_declaration function_expression arrow_function method_definition"
    " generator_function_declaration"
)
SCRIPT_DECISIONS = _words(
    "if_statement for_statement for_in_statement while_statement do_statement switch_case"
    " catch_clause ternary_expression && || ??"
)
GRAMMARS = {
    "python": Grammar(
        tree_sitter_python.language(),
        _words("function_definition"),
        _words(
            "if_statement elif_clause for_statement while_statement except_clause boolean_operator"
            " conditional_expression for_in_clause if_clause case_clause"
        ),
        strict=False,  # ruff is the judge of Python
    ),
    "javascript": Grammar(tree_sitter_javascript.language(), SCRIPT_FUNCTIONS, SCRIPT_DECISIONS),
    "typescript": Grammar(
        tree_sitter_typescript.language_typescript(), SCRIPT_FUNCTIONS, SCRIPT_DECISIONS
    ),
    "tsx": Grammar(tree_sitter_typescript.language_tsx(), SCRIPT_FUNCTIONS, SCRIPT_DECISIONS),
    "go": Grammar(
        tree_sitter_go.language(),
        _words("function_declaration method_declaration func_literal"),
        _words("if_statement for_statement expression_case type_case communication_case && ||"),
    ),
    "rust": Grammar(
        tree_sitter_rust.language(),
        _words("function_item closure_expression"),
        _words("if_expression while_expression for_expression match_arm && ||"),
    ),
    "c": Grammar(
        tree_sitter_c.language(),
        _words("function_definition"),
        _words(
            "if_statement for_statement while_statement do_statement case_statement"
            " conditional_expression && ||"
        ),
        strict=False,  # before the preprocessor, C is often no C
    ),
    "java": Grammar(
        tree_sitter_java.language(),
        _words("method_declaration constructor_declaration lambda_expression"),
        _words(
            "if_statement for_statement enhanced_for_statement while_statement do_statement"
            " switch_label catch_clause ternary_expression && ||"
        ),
    ),
}
SUFFIXES = {
    ".py": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript",
    ".jsx": "javascript", ".ts": "typescript", ".mts": "typescript", ".tsx": "tsx", ".go": "go",
    ".rs": "rust", ".c": "c", ".h": "c", ".java": "java",
}  # fmt: skip
MAX_ERRORS = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too much for one function."""

    complexity: int
    lines: int


def measure(sources: Sequence[Source], limits: Limits) -> list[Finding]:
    """Functions beyond the limits, and lines that are not of their language."""
    return [
        finding for s in sources if s.whole and language_of(s.path) for finding in _of(s, limits)
    ]


def language_of(path: str) -> str | None:
    """The language of a file, by its name."""
    return SUFFIXES.get(PurePosixPath(path).suffix.lower())


def _of(source: Source, limits: Limits) -> Iterator[Finding]:
    name = language_of(source.path)
    assert name is not None
    grammar = GRAMMARS[name]
    root = _parser(name).parse(source.text.encode()).root_node
    if root.has_error and grammar.strict:
        yield from _errors(source.path, root)
    for function in _walk(root, grammar.functions):
        yield from _judged(source.path, function, grammar, limits)


@lru_cache
def _parser(name: str) -> Parser:
    return Parser(Language(GRAMMARS[name].language))


def _walk(node: Node, kinds: frozenset[str]) -> Iterator[Node]:
    """Nodes of these kinds below a node, without recursion: code may be nested at will."""
    waiting = [*reversed(node.children)]
    while waiting:
        found = waiting.pop()
        if found.type in kinds:
            yield found
        waiting += reversed(found.children)


def _judged(path: str, node: Node, grammar: Grammar, limits: Limits) -> Iterator[Finding]:
    line, end = node.start_point.row + 1, node.end_point.row + 1
    complexity, length = 1 + _decisions(node, grammar), end - line + 1
    if complexity > limits.complexity:
        severity: Severity = "high" if complexity > 3 * limits.complexity else "medium"
        told = f"{_name(node)} has a complexity of {complexity} ({limits.complexity} at most)."
        yield Finding(path, line, "complexity", "complex-function", severity, told, end)
    if length > limits.lines:
        told = f"{_name(node)} has {length} lines ({limits.lines} at most)."
        yield Finding(path, line, "complexity", "long-function", "low", told, end)


def _decisions(function: Node, grammar: Grammar) -> int:
    """Decisions of a function itself; those of a function within it are that one's."""
    count, waiting = 0, [*function.children]
    while waiting:
        node = waiting.pop()
        if node.type in grammar.functions:
            continue
        count += node.type in grammar.decisions
        waiting += node.children
    return count


def _name(node: Node) -> str:
    name = node.child_by_field_name("name") or node.child_by_field_name("declarator")
    while name is not None and (inner := name.child_by_field_name("declarator")):
        name = inner
    text = name.text if name is not None else None
    return text.decode(errors="replace")[:80] if text else "A function"


def _errors(path: str, root: Node) -> Iterator[Finding]:
    waiting, lines = [root], set[int]()
    while waiting and len(lines) < MAX_ERRORS:
        node = waiting.pop()
        line = node.start_point.row + 1
        if node.is_error or node.is_missing:
            told = f"`{node.type}` is missing here." if node.is_missing else "This is not grammar."
            if line not in lines:
                yield Finding(path, line, "syntax", "syntax-error", "high", told)
            lines.add(line)
        else:
            waiting += [c for c in reversed(node.children) if c.has_error or c.is_missing]
