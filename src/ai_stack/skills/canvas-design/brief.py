"""Reads briefs: Markdown for posters and cards, statements for diagrams. Lays nothing out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ai_stack.skill import SkillFailed

BlockKind: TypeAlias = Literal[
    "kicker", "title", "subtitle", "paragraph", "item", "quote", "detail", "footer"
]
Form: TypeAlias = Literal["box", "round", "ellipse", "diamond", "cylinder", "accent"]
MOST_NODES, MOST_EDGES, LONGEST_LABEL = 60, 150, 80
DETAIL = re.compile(r"^\**([\w][\w ]{0,22}):\**[ \t]+(\S.*)$")
MARKS = re.compile(r"(\*\*|__|`)(.+?)\1")
EDGE = re.compile(
    r"^(?P<source>.+?)\s*(?P<line>-{1,2}>)\s*(?P<target>[^:]+?)\s*(?::\s*(?P<label>.+))?$"
)
NODE = re.compile(
    r"^(?P<name>[^=]+?)\s*=\s*(?P<label>.+?)\s*"
    r"(?:\((?P<form>box|round|ellipse|diamond|cylinder|accent)\))?$"
)
HEADS: tuple[tuple[str, BlockKind], ...] = (
    ("# ", "title"),
    ("## ", "subtitle"),
    ("### ", "subtitle"),
    ("- ", "item"),
    ("* ", "item"),
    ("> ", "quote"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a page; `label` is a detail's."""

    kind: BlockKind
    text: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A box of a diagram."""

    name: str
    label: str
    form: Form = "box"


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow of a diagram."""

    source: str
    target: str
    label: str = ""
    dashed: bool = False


def blocks(text: str) -> list[Block]:
    """The blocks of a page in their order; SkillFailed for one without a title."""
    found = list(_blocks(text))
    titles = [n for n, block in enumerate(found) if block.kind == "title"]
    if not titles:
        raise SkillFailed("The brief needs a title: a line that begins with `# `.")
    return [
        Block("kicker", b.text) if n < titles[0] and b.kind == "paragraph" else b
        for n, b in enumerate(found)
    ]


def _blocks(text: str) -> Iterator[Block]:
    paragraph: list[str] = []
    foot = False
    for line in [*(raw.strip() for raw in text.splitlines()), ""]:
        found = None if foot else _headed(line)
        rule = re.fullmatch(r"-{3,}|\*{3,}", line) is not None
        if paragraph and (found or rule or not line):
            yield Block("footer" if foot else "paragraph", " ".join(paragraph))
            paragraph = []
        foot = foot or rule
        if found:
            yield found
        elif line and not rule:
            paragraph.append(_plain(line))


def _headed(line: str) -> Block | None:
    for head, kind in HEADS:
        if line.startswith(head) and line.removeprefix(head).strip():
            return Block(kind, _plain(line.removeprefix(head)))
    detail = DETAIL.match(line)
    return Block("detail", _plain(detail[2]), detail[1].strip()) if detail else None


def _plain(text: str) -> str:
    return MARKS.sub(r"\2", text).strip()


def graph(text: str) -> tuple[list[Node], list[Edge]]:
    """A diagram's nodes and arrows; SkillFailed names the line that says neither."""
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if edge := EDGE.match(line):
            edges.append(_edge(edge))
            for name in (edges[-1].source, edges[-1].target):
                nodes.setdefault(name, Node(name, name))
        elif node := NODE.match(line):
            nodes[node["name"]] = _node(node)
        elif "->" in line or "=" in line:
            raise SkillFailed(f"Line {number} is no `a -> b: label` and no `a = Label (form)`.")
        else:
            nodes.setdefault(line, Node(line, line))
    _check(nodes, edges)
    return [*nodes.values()], edges


def _edge(found: re.Match[str]) -> Edge:
    return Edge(
        found["source"].strip(),
        found["target"].strip(),
        (found["label"] or "").strip(),
        dashed=found["line"] == "-->",
    )


def _node(found: re.Match[str]) -> Node:
    forms: dict[str, Form] = {
        "round": "round",
        "ellipse": "ellipse",
        "diamond": "diamond",
        "cylinder": "cylinder",
        "accent": "accent",
    }
    return Node(found["name"], found["label"], forms.get(found["form"] or "", "box"))


def _check(nodes: dict[str, Node], edges: list[Edge]) -> None:
    if not nodes:
        raise SkillFailed("The brief names no node: write `a -> b` or `a = Label`.")
    if len(nodes) > MOST_NODES or len(edges) > MOST_EDGES:
        raise SkillFailed(
            f"A diagram takes {MOST_NODES} nodes and {MOST_EDGES} arrows; this has "
            f"{len(nodes)} and {len(edges)}. Draw it in parts."
        )
    for label in [*(n.label for n in nodes.values()), *(e.label for e in edges)]:
        if len(label) > LONGEST_LABEL:
            raise SkillFailed(f"A label has at most {LONGEST_LABEL} characters: {label[:40]!r}…")
