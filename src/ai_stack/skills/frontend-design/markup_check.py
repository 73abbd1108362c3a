"""Judges a page by its markup alone, without a browser."""

import re
from collections import Counter
from collections.abc import Iterator

import tinycss2
from selectolax.lexbor import LexborHTMLParser, LexborNode

Fault = tuple[str, str, str]
LOADING = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "input": ("src",),
}
REMOTE = re.compile(r"(?i)(?:^|[\s,])((?:https?:)?//[^\s,]+)")
UNLOADED = {"canonical", "alternate", "author", "license", "next", "prev", "me"}


def faults(html: str) -> list[Fault]:
    """Each fault as its rule, where it is, and what it is."""
    tree = LexborHTMLParser(html)
    checks = (_document, _pictures, _fields, _headings, _ids, _remote)
    return [fault for check in checks for fault in check(tree)]


def _document(tree: LexborHTMLParser) -> Iterator[Fault]:
    root = tree.css_first("html")
    if root is None or not (root.attributes.get("lang") or "").strip():
        yield "language", "html", "has no lang, by which readers choose a voice"
    title = tree.css_first("title")
    if title is None or not title.text(strip=True):
        yield "title", "head", "has no title"
    view = tree.css_first("meta[name=viewport]")
    content = (view.attributes.get("content") or "") if view else ""
    if view is None:
        yield "viewport", "head", "has no viewport: phones show it as a wide page, small"
    elif re.search(r"user-scalable\s*=\s*(no|0)|maximum-scale\s*=\s*1(\D|$)", content):
        yield "viewport", "meta[name=viewport]", "forbids to enlarge the page"


def _pictures(tree: LexborHTMLParser) -> Iterator[Fault]:
    for node in tree.css("img"):
        if "alt" not in node.attributes and not node.attributes.get("aria-label"):
            yield "alt", _place(node), "a picture without alt"


def _fields(tree: LexborHTMLParser) -> Iterator[Fault]:
    labelled = {node.attributes.get("for") for node in tree.css("label[for]")}
    for node in tree.css("input, select, textarea"):
        known = node.attributes
        if known.get("type") in ("hidden", "submit", "button", "reset", "image"):
            continue
        named = any(known.get(key) for key in ("aria-label", "aria-labelledby", "title"))
        if not named and known.get("id") not in labelled and not _within(node, "label"):
            yield "label", _place(node), "a field without a label"


def _headings(tree: LexborHTMLParser) -> Iterator[Fault]:
    last = 0
    for node in tree.css("h1, h2, h3, h4, h5, h6"):
        level = int((node.tag or "h1")[1])
        if level > last + 1:
            what = f"h{level} after h{last}" if last else f"begins with h{level}"
            yield "headings", _place(node), f"{what}: a level is left out"
        last = level


def _ids(tree: LexborHTMLParser) -> Iterator[Fault]:
    counted = Counter(node.attributes.get("id") for node in tree.css("[id]"))
    for id, count in counted.items():
        if id and count > 1:
            yield "id", f"#{id}", f"is used {count} times"


def _remote(tree: LexborHTMLParser) -> Iterator[Fault]:
    """What the page would load from elsewhere."""
    for name, keys in LOADING.items():
        for node in tree.css(name):
            if name == "link" and (node.attributes.get("rel") or "").lower() in UNLOADED:
                continue
            for key in keys:
                for url in REMOTE.findall(node.attributes.get(key) or ""):
                    yield "remote", _place(node), f"loads {url[:120]}"
    for node in tree.css("style"):
        for url in css_urls(node.text()):
            if REMOTE.match(url):
                yield "remote", "style", f"loads {url[:120]}"


def css_urls(css: str) -> Iterator[str]:
    """Every address in a style sheet, imports among them."""
    waiting = list(tinycss2.parse_component_value_list(css, skip_comments=True))
    while waiting:
        token = waiting.pop()
        if token.type == "url":
            yield token.value
        elif token.type == "function" and token.lower_name == "url":
            yield from (part.value for part in token.arguments if part.type == "string")
        elif token.type == "string" and REMOTE.match(token.value):
            yield token.value
        waiting += getattr(token, "content", None) or getattr(token, "arguments", None) or []


def _within(node: LexborNode, name: str) -> bool:
    parent = node.parent
    while parent is not None:
        if parent.tag == name:
            return True
        parent = parent.parent
    return False


def _place(node: LexborNode) -> str:
    id = node.attributes.get("id")
    text = node.text(strip=True)[:30]
    source = (node.attributes.get("src") or node.attributes.get("name") or "")[:40]
    return f"{node.tag}#{id}" if id else f"{node.tag} {source or text}".strip()
