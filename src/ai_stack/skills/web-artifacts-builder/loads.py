"""What a page would load, by its markup and styles; nothing of it is run."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import tinycss2

from .app import INNER
from .page import ICONS, LOADED

MOST = 1_000
IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["']((?:\.{0,2}/|https?:)[^"'\n]+)["']""")


class Loads(HTMLParser):
    """Collects what is loaded: (line, tag, address)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str, str]] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {key: value or "" for key, value in attrs}
        self.inside = tag if tag in ("style", "script") else ""
        for address in _addresses(tag, known):
            self._add(tag, address)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            for address in css_addresses(data):
                self._add("style", address)
        elif self.inside == "script":
            for address in IMPORT.findall(data):
                self._add("script", address)

    def _add(self, tag: str, address: str) -> None:
        if not INNER.match(address.strip()) and len(self.found) < MOST:
            self.found.append((self.getpos()[0], tag, address.strip()[:200]))


def _addresses(tag: str, known: dict[str, str]) -> Iterator[str]:
    if tag in ("script", "iframe", "frame"):
        yield known.get("src", "")
    if tag == "link" and set(known.get("rel", "").lower().split()) & {
        "stylesheet",
        "manifest",
        *ICONS,
    }:
        yield known.get("href", "")
    for key in LOADED.get(tag, ()):
        if key == "srcset":
            if not known.get(key, "").startswith("data:"):
                yield from (p.split()[0] for p in known.get(key, "").split(",") if p.strip())
        else:
            yield known.get(key, "")
    if "style" in known:
        yield from css_addresses(known["style"])


def css_addresses(css: str) -> Iterator[str]:
    """Every address in CSS."""
    waiting = list(tinycss2.parse_component_value_list(css, skip_comments=True))
    for n, token in enumerate(waiting):
        if token.type == "at-keyword" and token.lower_value == "import":
            yield from (t.value for t in waiting[n + 1 : n + 3] if t.type == "string")
    while waiting:
        token = waiting.pop()
        if token.type == "url":
            yield token.value
        elif token.type == "function" and token.lower_name == "url":
            yield from (part.value for part in token.arguments if part.type == "string")
        waiting += getattr(token, "content", None) or getattr(token, "arguments", None) or []


def loads(html: str) -> list[tuple[int, str, str]]:
    """What a page loads, in the order of the page."""
    parser = Loads()
    parser.feed(html)
    parser.close()
    return parser.found
