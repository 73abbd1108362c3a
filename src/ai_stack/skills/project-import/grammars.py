"""Which nodes of seven languages' grammars are symbols, and of what kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

import tree_sitter_c
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Parser

Kind: TypeAlias = Literal["function", "method", "class", "type", "text"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """`wrappers` are nodes that hold a symbol and belong to it, as decorators and exports do."""

    name: str
    language: object
    symbols: Mapping[str, Kind]
    wrappers: frozenset[str] = field(default_factory=frozenset)


SCRIPT: Mapping[str, Kind] = {
    "function_declaration": "function", "generator_function_declaration": "function",
    "variable_declarator": "function", "method_definition": "method",
    "class_declaration": "class", "abstract_class_declaration": "class",
    "interface_declaration": "type", "type_alias_declaration": "type", "enum_declaration": "type",
    "internal_module": "class",
}  # fmt: skip
SCRIPT_WRAPPERS = frozenset(
    {"export_statement", "lexical_declaration", "variable_declaration", "expression_statement"}
)
PYTHON = Grammar(
    "python", tree_sitter_python.language(),
    {"function_definition": "function", "class_definition": "class"},
    frozenset({"decorated_definition"}),
)  # fmt: skip
JAVASCRIPT = Grammar("javascript", tree_sitter_javascript.language(), SCRIPT, SCRIPT_WRAPPERS)
TYPESCRIPT = Grammar(
    "typescript", tree_sitter_typescript.language_typescript(), SCRIPT, SCRIPT_WRAPPERS
)
TSX = Grammar("typescript", tree_sitter_typescript.language_tsx(), SCRIPT, SCRIPT_WRAPPERS)
GO = Grammar(
    "go", tree_sitter_go.language(),
    {"function_declaration": "function", "method_declaration": "method", "type_spec": "type"},
    frozenset({"type_declaration"}),
)  # fmt: skip
RUST = Grammar(
    "rust", tree_sitter_rust.language(),
    {"function_item": "function", "impl_item": "class", "struct_item": "type", "enum_item": "type",
     "trait_item": "class", "mod_item": "class", "macro_definition": "function"},
)  # fmt: skip
C = Grammar(
    "c", tree_sitter_c.language(),
    {"function_definition": "function", "struct_specifier": "type", "enum_specifier": "type",
     "union_specifier": "type", "type_definition": "type"},
)  # fmt: skip
JAVA = Grammar(
    "java", tree_sitter_java.language(),
    {"class_declaration": "class", "interface_declaration": "class", "record_declaration": "class",
     "enum_declaration": "type", "method_declaration": "method",
     "constructor_declaration": "method"},
)  # fmt: skip
BY_SUFFIX = {
    ".py": PYTHON, ".pyi": PYTHON, ".js": JAVASCRIPT, ".mjs": JAVASCRIPT, ".cjs": JAVASCRIPT,
    ".jsx": JAVASCRIPT, ".ts": TYPESCRIPT, ".mts": TYPESCRIPT, ".tsx": TSX, ".go": GO, ".rs": RUST,
    ".c": C, ".h": C, ".java": JAVA,
}  # fmt: skip


def grammar_of(path: str) -> Grammar | None:
    """The grammar of a file, by its name."""
    return BY_SUFFIX.get(PurePosixPath(path).suffix.lower())


@lru_cache
def parser_of(suffix: str) -> Parser:
    """The parser for files of this suffix."""
    return Parser(Language(BY_SUFFIX[suffix].language))
