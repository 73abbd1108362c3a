"""HTML to Markdown: the main content, without scripts, styles and navigation.

Walks lexbor's tree with a loop, so that nesting of any depth costs no stack.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from ai_stack.errors import InvalidRequest
from ai_stack.parsers import Parsed, Source, Value
from ai_stack.parsers.charset import decoded

META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([-\w]+)", re.IGNORECASE)
XML_ENCODING = re.compile(rb"^<\?xml[^>]{0,100}encoding=[\"']([-\w]+)")
MAIN = "main, [role=main], article, #mw-content-text"
MAIN_CHARACTERS = 200
DROPPED = frozenset(
    {"script", "style", "noscript", "template", "svg", "nav", "footer", "aside", "form", "iframe"}
    | {"button", "select", "object", "canvas", "audio", "video", "math", "head"}
)
BOILERPLATE = (
    "[role=navigation], [role=banner], [role=contentinfo], [role=search], [hidden],"
    " .navheader, .navfooter, .related, .sphinxsidebar, .breadcrumb, .headerlink, .toc-backref"
)
BLOCKS = frozenset(
    {"address", "article", "blockquote", "body", "caption", "center", "dd", "details", "dialog"}
    | {"div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "header", "hgroup", "hr"}
    | {"li", "main", "ol", "p", "section", "summary", "ul"}
)
HEADINGS = {f"h{n}": "#" * n + " " for n in range(1, 7)}
LANGUAGE = re.compile(r"(?:highlight|language|lang|brush)[-:]\s?([a-z0-9+#]+)")
LAYOUT = "table table, ul, ol, dl, pre, h1, h2, h3, h4, div div"


def parse(source: Source) -> Parsed:
    declared = META.search(source.data[:4096]) or XML_ENCODING.search(source.data[:200])
    text, metadata = decoded(source, declared[1].decode() if declared else None)
    markdown, title, found = to_markdown(text)
    return Parsed(markdown, title, {**metadata, **found})


def to_markdown(html: str) -> tuple[str, str, Mapping[str, Value]]:
    """Markdown, title and what the page says of itself."""
    tree = LexborHTMLParser(html)
    title = tree.css_first("title")
    root = _main(tree)
    if root is None:
        raise InvalidRequest("There is no text in this page.")
    markdown = Page().read(root)
    if not markdown.strip() and tree.body is not None:
        markdown = Page().read(tree.body)
    name = " ".join(title.text().split()) if title else ""
    return markdown, _title(name, markdown), _metadata(tree)


def _main(tree: LexborHTMLParser) -> LexborNode | None:
    for node in tree.css(BOILERPLATE):
        node.decompose()
    found = tree.css(MAIN)
    if found:
        best = max(found, key=lambda node: len(node.text()))
        if len(best.text()) >= MAIN_CHARACTERS:
            return best
    return tree.body or tree.root


def _title(name: str, markdown: str) -> str:
    """The first heading where the page's title only adds the site's name to it."""
    first = re.search(r"^#{1,2} (.+)$", markdown[:4096], re.MULTILINE)
    return first[1] if first and (not name or name.startswith(first[1])) else name


def _metadata(tree: LexborHTMLParser) -> dict[str, Value]:
    root, found = tree.css_first("html"), dict[str, Value]()
    if root is not None and (language := root.attributes.get("lang")):
        found["language"] = language
    for node in tree.css("meta[name=author], meta[name=description]"):
        if content := node.attributes.get("content"):
            found[str(node.attributes["name"]).lower()] = content
    return found


@dataclass(slots=True)
class Page:
    """Collects blocks; `line` is the block being read, `lists` the open lists' numbers."""

    blocks: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    prefix: str = ""
    lists: list[int | None] = field(default_factory=list)
    tight: bool = False

    def read(self, root: LexborNode) -> str:
        """All below one node."""
        node, depth = root, 0
        while True:
            child = node.first_child if self._enter(node) else None
            if child is not None:
                node, depth = child, depth + 1
                continue
            while (following := node.next if depth else None) is None:
                if depth == 0:
                    self.flush()
                    return "".join(self.blocks)
                parent = node.parent
                assert parent is not None
                node, depth = parent, depth - 1
                self._leave(node.tag or "")
            node = following

    def _enter(self, node: LexborNode) -> bool:
        """Take what the node says itself; True when its children are to be read."""
        tag = node.tag or ""
        if tag == "-text":
            self.line.append(node.text_content or "")
            return False
        if tag in DROPPED or (tag.startswith("-") and tag != "-document"):
            return False
        if tag in HEADINGS or tag in BLOCKS:
            return self._open(tag)
        return self._special(node, tag)

    def _open(self, tag: str) -> bool:
        self.flush()
        if tag in HEADINGS:
            self.prefix = HEADINGS[tag]
        elif tag in ("ul", "ol"):
            self.tight = bool(self.lists)
            self.lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self.prefix = self._bullet()
        return True

    def _bullet(self) -> str:
        indent = "  " * min(len(self.lists) - 1, 8)
        number = self.lists[-1] if self.lists else None
        if number is None:
            return indent + "- "
        self.lists[-1] = number + 1
        return f"{indent}{number + 1}. "

    def _special(self, node: LexborNode, tag: str) -> bool:
        if tag == "pre":
            self._code(node)
        elif tag == "br":
            self.line.append("\v")
        elif tag == "img":
            self.line.append(node.attributes.get("alt") or "")
        elif tag == "table" and node.css_first(LAYOUT) is None:
            self._table(node)
        else:
            if tag in ("table", "tr", "td", "th"):
                self.flush()
            return True
        return False

    def _leave(self, tag: str) -> None:
        if tag in HEADINGS or tag in BLOCKS or tag in ("tr", "td", "th"):
            self.flush()
            self.prefix = ""
            self.tight = tag in ("li", "dt")
            if tag in ("ul", "ol") and self.lists:
                self.lists.pop()

    def flush(self) -> None:
        """End the block being read."""
        if not self.line:
            return
        text = "".join(self.line)
        self.line.clear()
        if "\v" in text:
            parts = (" ".join(part.split()) for part in text.split("\v"))
            text = (" " if self.prefix else "\n").join(filter(None, parts))
        else:
            text = " ".join(text.split())
        if text:
            self._put(self.prefix + text)
            self.prefix = ""

    def _put(self, block: str) -> None:
        if self.blocks:
            self.blocks.append("\n" if self.tight else "\n\n")
        self.blocks.append(block)
        self.tight = False

    def _code(self, node: LexborNode) -> None:
        self.flush()
        code = node.text().strip("\n").rstrip()
        if code:
            fence = "`" * max(3, 1 + max(map(len, re.findall(r"`{3,}", code)), default=0))
            self._put(f"{fence}{_language(node)}\n{code}\n{fence}")

    def _table(self, node: LexborNode) -> None:
        self.flush()
        rows = [[_cell(cell) for cell in row.css("td, th")] for row in node.css("tr")]
        if block := markdown_table(rows):
            self._put(block)


def _cell(node: LexborNode) -> str:
    return " ".join(node.text(separator=" ").split()) if node.first_child else ""


def _language(node: LexborNode) -> str:
    """The language that a class of the block, or of one around or in it, names."""
    around = [node, node.first_child, node.parent, node.parent and node.parent.parent]
    for place in around:
        if place is not None and (found := LANGUAGE.search(place.attributes.get("class") or "")):
            name = found[1]
            return {"default": "python", "python3": "python", "none": ""}.get(name, name)
    return ""


def markdown_table(rows: list[list[str]]) -> str:
    """Rows of equal length as a Markdown table, the first as its head; blank rows fall away."""
    rows = [row for row in rows if any(row)]
    width = max(map(len, rows), default=0)
    if not width:
        return ""
    lines = [
        "| " + " | ".join(_escaped(c) for c in [*r, *[""] * (width - len(r))]) + " |" for r in rows
    ]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
