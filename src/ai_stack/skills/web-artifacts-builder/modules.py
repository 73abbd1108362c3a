"""Modules with all that they import: each gets a name in an import map, and stays a module."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tree_sitter import Node

from ai_stack.skill import SkillFailed

from .app import REMOTE, App, data_url
from .styles import inlined
from .typescript import NeedsCompiler, erased, parsed, walk

PREFIX = "app/"
SCRIPTS = (".js", ".mjs", ".ts", ".mts")
TYPED = (".ts", ".mts")
COMPILED = (".jsx", ".tsx")
GUESSES = ("", ".ts", ".js", ".mjs", "/index.ts", "/index.js")
STYLE = """const style = document.createElement('style');
style.textContent = {};
document.head.append(style);
export default style.textContent;
"""


@dataclass(slots=True)
class Modules:
    """The modules of an app, by the names that its import map gives them."""

    app: App
    urls: dict[str, str] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)

    def entry(self, path: Path) -> str:
        """The name of a module, which is taken in with all that it imports."""
        waiting = [path]
        while waiting:
            one = waiting.pop()
            if self._name(one) not in self.urls:
                content, imported = self._module(one)
                self.urls[self._name(one)] = data_url(content.encode(), "text/javascript")
                waiting += imported
        return self._name(path)

    def inline(self, code: str, base: Path, place: str) -> str:
        """A module within a page: its code with names of modules in place of addresses."""
        changed, imported = self._rewritten(code, base, place)
        for path in imported:
            self.entry(path)
        return changed

    def import_map(self) -> str:
        """The map, as JSON; empty without modules."""
        return json.dumps({"imports": self.urls}).replace("</", "<\\/") if self.urls else ""

    def _name(self, path: Path) -> str:
        return PREFIX + self.app.name(path)

    def _module(self, path: Path) -> tuple[str, list[Path]]:
        """A file as a module of JavaScript, and the files that it imports."""
        suffix, name = path.suffix.lower(), self.app.name(path)
        if suffix in COMPILED:
            raise NeedsCompiler(name, 1, "JSX")
        if suffix in SCRIPTS:
            code = self.app.text(path)
            plain = erased(code, name) if suffix in TYPED else code
            return self._rewritten(plain, path.parent, name)
        if suffix == ".json":
            return f"export default {_json(self.app.text(path), name)};\n", []
        if suffix == ".css":
            css = inlined(self.app.text(path), path.parent, self.app, name, (path,))
            return STYLE.format(json.dumps(css)), []
        return f"export default {json.dumps(self.app.data_url(path))};\n", []

    def _rewritten(self, code: str, base: Path, name: str) -> tuple[str, list[Path]]:
        """The code with every address that is written out replaced, and the modules it names."""
        source = code.encode()
        root = parsed(source)
        if fault := next((n for n in walk(root) if n.is_error or n.is_missing), None):
            told = f"{name}:{fault.start_point.row + 1} is no JavaScript that can be read."
            raise SkillFailed(told)
        imported: list[Path] = []
        changes = [c for node in walk(root) for c in self._changes(node, base, name, imported)]
        out = bytearray(source)
        for start, end, text in sorted(changes, reverse=True):
            out[start:end] = text.encode()
        return out.decode(), imported

    def _changes(
        self, node: Node, base: Path, name: str, imported: list[Path]
    ) -> Iterator[tuple[int, int, str]]:
        if node.type in ("import_statement", "export_statement"):
            source = node.child_by_field_name("source")
            if source is not None:
                yield self._import(source, base, name, imported)
            yield from (
                (c.start_byte, c.end_byte, "")
                for c in node.children
                if c.type == "import_attribute"
            )
        elif node.type == "call_expression":
            yield from self._call(node, base, name, imported)
        elif node.type == "new_expression" and (text := _own_url(node)) is not None:
            path = self.app.find(_string(text), base, name)
            if path is not None:
                yield text.start_byte, text.end_byte, json.dumps(self.app.data_url(path))

    def _call(
        self, node: Node, base: Path, name: str, imported: list[Path]
    ) -> Iterator[tuple[int, int, str]]:
        called = node.child_by_field_name("function")
        given = node.child_by_field_name("arguments")
        first = given.named_children[0] if given is not None and given.named_children else None
        kind = (called.text or b"").decode() if called is not None else ""
        if first is None or kind not in ("import", "fetch"):
            return
        if first.type != "string":
            what = f"{name}:{node.start_point.row + 1}: what {kind}() loads there is not seen."
            self.app.notes[what] = None
        elif kind == "import":
            yield self._import(first, base, name, imported)
        elif (path := self.app.find(_string(first), base, name)) is not None:
            yield first.start_byte, first.end_byte, json.dumps(self.app.data_url(path))

    def _import(
        self, source: Node, base: Path, name: str, imported: list[Path]
    ) -> tuple[int, int, str]:
        address, line = _string(source), source.start_point.row + 1
        path = self._resolved(address, base, name, line)
        if path is None:
            return source.start_byte, source.end_byte, '"data:text/javascript,"'
        imported.append(path)
        return source.start_byte, source.end_byte, json.dumps(self._name(path))

    def _resolved(self, address: str, base: Path, name: str, line: int) -> Path | None:
        """The file of an import; None for one on another machine, which is remembered."""
        if REMOTE.match(address):
            self.app.remote[f"{name}:{line}", address[:200]] = None
            return None
        if not address.startswith((".", "/")):
            raise NeedsCompiler(name, line, f"the package {address[:60]!r}")
        top = self.app.folder / address.lstrip("/") if address.startswith("/") else base / address
        tried = [Path(f"{top}{guess}") for guess in GUESSES]
        if top.suffix in (".js", ".mjs"):
            tried.append(top.with_suffix(".ts"))
        for path in tried:
            real = path.resolve()
            if real.is_file() and real.is_relative_to(self.app.folder):
                return real
        raise SkillFailed(f"{name}:{line} imports {address[:100]!r}, which is not in the app.")


def _json(text: str, name: str) -> str:
    try:
        return json.dumps(json.loads(text))
    except (ValueError, RecursionError):
        raise SkillFailed(f"{name} is no JSON.") from None


def _string(node: Node) -> str:
    return (node.text or b"''").decode()[1:-1]


def _own_url(node: Node) -> Node | None:
    """The string in `new URL('…', import.meta.url)`."""
    given = node.child_by_field_name("arguments")
    maker = node.child_by_field_name("constructor")
    if given is None or maker is None or maker.text != b"URL" or len(given.named_children) != 2:
        return None
    text, base = given.named_children
    return text if text.type == "string" and base.text == b"import.meta.url" else None
