"""Marks within a text: **bold**, *italic*, `code`, [link](https://…); knows nothing of Word."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

LONGEST = 4000
MARK = re.compile(
    r"\\(?P<escaped>[\\*`\[\],])"
    rf"|\*\*(?=\S)(?P<bold>(?:\\.|[^\\]){{1,{LONGEST}}}?)(?<=\S)\*\*(?!\*)"
    rf"|\*(?![\s*])(?P<italic>(?:\\.|[^*\\]){{1,{LONGEST}}}?)(?<=\S)\*"
    rf"|`(?P<code>[^`]{{1,{LONGEST}}})`"
    rf"|\[(?P<label>(?:\\.|[^\]\\]){{1,{LONGEST}}})\]\((?P<url>(?:https?://|mailto:)[^\s)]+)\)",
    re.DOTALL,
)
BETWEEN = "\\,"  # nothing, between two marks that would else be read as one
MARKS = re.compile(r"[\\*`\[\]]")


@dataclass(frozen=True, slots=True)
class Span:
    """Text of one look."""

    text: str
    bold: bool = False
    italic: bool = False
    code: bool = False
    link: str = ""


def parsed(text: str, look: Span = Span("")) -> Iterator[Span]:
    """The spans of a marked text; marks that are not closed are text."""
    place = 0
    for found in MARK.finditer(text):
        if found.start() > place:
            yield replace(look, text=text[place : found.start()])
        place = found.end()
        yield from _inner(found, look)
    if place < len(text):
        yield replace(look, text=text[place:])


def _inner(found: re.Match[str], look: Span) -> Iterator[Span]:
    match found.lastgroup:
        case "escaped":
            yield replace(look, text=found["escaped"].strip(","))
        case "bold":
            yield from parsed(found["bold"], replace(look, bold=True))
        case "italic":
            yield from parsed(found["italic"], replace(look, italic=True))
        case "code":
            yield replace(look, text=found["code"], code=True)
        case _:
            yield from parsed(found["label"], replace(look, link=found["url"]))


def marked(spans: Iterable[Span]) -> str:
    """The text that `parsed` would give these spans for."""
    text = ""
    for span in _merged(spans):
        new = _marked(span)
        text += BETWEEN + new if text.endswith(("*", "`")) and new.startswith(("*", "`")) else new
    return text


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    last: Span | None = None
    for span in spans:
        if not span.text:
            continue
        if last is not None and replace(last, text="") == replace(span, text=""):
            last = replace(last, text=last.text + span.text)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def _marked(span: Span) -> str:
    """Marks stand against the words, spaces outside them."""
    core = span.text.strip()
    if not core:
        return span.text
    head, tail = span.text.split(core, 1)[0], span.text.rsplit(core, 1)[-1]
    if span.code and "`" not in core:
        return f"{head}`{core}`{tail}"
    text = MARKS.sub(r"\\\g<0>", core)
    text = f"*{text}*" if span.italic else text
    text = f"**{text}**" if span.bold else text
    return f"{head}[{text}]({span.link}){tail}" if span.link else f"{head}{text}{tail}"
