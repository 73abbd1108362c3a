"""Which parser reads a file: its first bytes decide, then its extension, then its media type."""

from importlib import import_module
from pathlib import PurePosixPath
from typing import cast

from ai_stack.errors import InvalidRequest, Unsupported
from ai_stack.parsers import Parsed, Parser, Source, finished
from ai_stack.parsers.archive import kind_of

PARSERS = {
    "markdown": "prose",
    "rst": "prose",
    "text": "prose",
    "code": "prose",
    "html": "html",
    "xml": "markup",
    "pdf": "pdf",
    "docx": "docx",
    "pptx": "pptx",
    "xlsx": "sheets",
    "epub": "epub",
    "csv": "tables",
    "json": "records",
    "jsonl": "records",
    "notebook": "records",
}
EXTENSIONS = {
    "markdown": "md markdown mdown mkd mdx qmd rmd",
    "rst": "rst rest",
    "text": "txt text log adoc asciidoc org tex",
    "html": "html htm xhtml",
    "xml": "xml rss atom docbook dbk",
    "pdf": "pdf",
    "docx": "docx docm dotx",
    "pptx": "pptx pptm potx ppsx",
    "xlsx": "xlsx xlsm xlsb xls ods",
    "epub": "epub",
    "csv": "csv tsv tab",
    "json": "json geojson webmanifest",
    "jsonl": "jsonl ndjson",
    "notebook": "ipynb",
}
CODE = {
    "python": "py pyi pyx pyw",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts tsx mts cts",
    "c": "c h",
    "cpp": "cc cpp cxx hpp hh hxx cu",
    "csharp": "cs",
    "java": "java",
    "kotlin": "kt kts",
    "scala": "scala sc",
    "go": "go",
    "rust": "rs",
    "swift": "swift",
    "ruby": "rb rake gemspec",
    "php": "php",
    "perl": "pl pm",
    "lua": "lua",
    "r": "r",
    "julia": "jl",
    "haskell": "hs",
    "ocaml": "ml mli",
    "elixir": "ex exs",
    "erlang": "erl hrl",
    "clojure": "clj cljs edn",
    "lisp": "lisp el scm rkt",
    "dart": "dart",
    "zig": "zig",
    "nix": "nix",
    "shell": "sh bash zsh fish",
    "powershell": "ps1 psm1",
    "sql": "sql ddl",
    "css": "css scss sass less",
    "vue": "vue svelte",
    "yaml": "yaml yml",
    "toml": "toml",
    "ini": "ini cfg conf env properties service timer",
    "terraform": "tf hcl",
    "protobuf": "proto",
    "graphql": "graphql gql",
    "make": "mk makefile cmake",
    "dockerfile": "dockerfile containerfile",
    "diff": "diff patch",
}
MEDIA_TYPES = {
    "text/markdown": "markdown",
    "text/x-rst": "rst",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "application/json": "json",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/xml": "xml",
    "text/xml": "xml",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/epub+zip": "epub",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.ms-excel": "xlsx",
    "application/vnd.oasis.opendocument.spreadsheet": "xlsx",
}
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
FORMAT_OF = {end: kind for kind, ends in EXTENSIONS.items() for end in ends.split()}
LANGUAGE_OF = {end: language for language, ends in CODE.items() for end in ends.split()}


def parse(source: Source, media_type: str | None = None) -> Parsed:
    """The text of one file.

    Raises Unsupported for a type that the stack does not read, InvalidRequest for a file that
    is damaged or holds no text, TooLarge for one that grows beyond its limits.
    """
    if not source.data:
        raise InvalidRequest("This file is empty.")
    module = PARSERS[format_of(source, media_type)]
    parser = cast(Parser, import_module(f"ai_stack.parsers.{module}").parse)
    return finished(parser(source), source)


def format_of(source: Source, media_type: str | None = None) -> str:
    """A key of PARSERS; Unsupported when nothing tells, or the bytes are of another kind."""
    end = extension_of(source.name)
    known = FORMAT_OF.get(end) or ("code" if end in LANGUAGE_OF else None)
    kind = _sniffed(source, end) or known
    if kind is None:
        kind = MEDIA_TYPES.get((media_type or "").partition(";")[0].strip().lower(), "text")
    return kind


def extension_of(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.suffix.lstrip(".") or path.name.lstrip(".")).lower()


def _sniffed(source: Source, end: str) -> str | None:
    head = source.data[:1024]
    if head.lstrip()[:5] == b"%PDF-":
        return "pdf"
    if head[:4] == b"PK\x03\x04":
        return kind_of(source)
    if head[:8] == OLD_OFFICE and FORMAT_OF.get(end) != "xlsx":
        raise Unsupported("The stack reads docx and pptx, not the older doc and ppt.")
    if FORMAT_OF.get(end) in ("pdf", "docx", "pptx", "epub") or end == "xlsx":
        raise InvalidRequest(f"This file is named .{end} and is none, or it is damaged.")
    return None
