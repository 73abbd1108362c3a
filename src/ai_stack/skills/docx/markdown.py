"""Markdown as blocks: CommonMark with tables; HTML in it is text."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token

from .blocks import Block, Code, Heading, Image, ListOf, PageBreak, Paragraph, Table
from .inline import Span, marked


def blocks_of(text: str) -> list[Block]:
    """The blocks that a Markdown text says; a rule (`---`) is a page break."""
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(text)
    return list(_blocks(tokens))


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    place = 0
    while place < len(tokens):
        token = tokens[place]
        end = _end(tokens, place)
        inside = tokens[place + 1 : end]
        match token.type:
            case "heading_open":
                yield Heading(text=_text(inside), level=int(token.tag[1]))
            case "paragraph_open":
                yield from _paragraph(inside)
            case "bullet_list_open" | "ordered_list_open":
                yield ListOf(items=_items(inside, 0) or [""], ordered=token.tag == "ol")
            case "blockquote_open":
                yield from _quoted(inside)
            case "table_open":
                yield Table(rows=_rows(inside))
            case "fence" | "code_block":
                yield Code(text=token.content.rstrip("\n"))
            case "hr":
                yield PageBreak()
        place = end + 1


def _end(tokens: Sequence[Token], start: int) -> int:
    """Where what opens here closes."""
    depth = 0
    for place in range(start, len(tokens)):
        depth += tokens[place].nesting
        if depth <= 0:
            return place
    return len(tokens) - 1


def _paragraph(tokens: Sequence[Token]) -> Iterator[Block]:
    pictures = [c for t in tokens for c in t.children or () if c.type == "image"]
    if text := _text(tokens).strip():
        yield Paragraph(text=text)
    for picture in pictures:
        name = PurePosixPath(str(picture.attrs.get("src", ""))).name
        yield Image(file=name, alt=picture.content)


def _quoted(tokens: Sequence[Token]) -> Iterator[Block]:
    for block in _blocks(tokens):
        if isinstance(block, Paragraph):
            yield Paragraph(text=block.text, style="quote")
        else:
            yield block


def _items(tokens: Sequence[Token], level: int) -> list[str]:
    """The items of a list, those of lists within it one level lower."""
    items: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.type in ("bullet_list_open", "ordered_list_open"):
            end = _end(tokens, place)
            items += _items(tokens[place + 1 : end], level + 1)
            place = end
        elif token.type == "inline":
            items.append("  " * level + _text([token]))
        place += 1
    return items


def _rows(tokens: Sequence[Token]) -> list[list[str]]:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_text([token]))
    return rows


def _text(tokens: Sequence[Token]) -> str:
    return marked(span for token in tokens for span in _spans(token.children or ()))


def _spans(children: Sequence[Token]) -> Iterator[Span]:
    bold = italic = 0
    link = ""
    for child in children:
        match child.type:
            case "strong_open" | "strong_close":
                bold += child.nesting
            case "em_open" | "em_close":
                italic += child.nesting
            case "link_open":
                target = str(child.attrs.get("href", ""))
                link = target if target.startswith(("http://", "https://", "mailto:")) else ""
            case "link_close":
                link = ""
            case "softbreak" | "hardbreak":
                yield Span("\n" if child.type == "hardbreak" else " ")
            case "text" | "code_inline":
                code = child.type == "code_inline"
                yield Span(child.content, bold > 0, italic > 0, code, link)
