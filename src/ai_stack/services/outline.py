"""Where a text may be cut, how good each place is, and under which headings it stands.

Knows Markdown, reStructuredText, plain text and the look of source code; it knows no tokens.
Every pattern here runs in linear time, whatever the text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

PROSE = frozenset({"markdown", "rst", "text"})

HEADING = (1.6, 1.3, 0.9, 0.7, 0.6, 0.5)
PARAGRAPH, ITEM, SENTENCE, LINE, LEAD_IN = 0.35, 0.2, 0.1, -0.2, -0.05
FENCED_BLANK, FENCED_LINE = 0.1, -0.25
DEFINITION, BLANK_IN_CODE, CODE_LINE, CLOSER = (1.0, 0.7, 0.4), (0.6, 0.3, 0.1), -0.2, -0.6

BLOCKS = re.compile(
    r"^ {0,3}(?P<mark>`{3,}+(?![^\n`]*+`)|~{3,}+)[^\n]*+$"
    r"(?:\n(?! {0,3}(?P=mark))[^\n]*+)*+(?:\n[^\n]*+)?"
    r"|^ {0,3}(?P<level>\#{1,6})[ \t]++(?P<name>[^\n]++)"
    r"|^(?P<line>[^\s|>\-*+][^\n]*+)\n(?P<under>(?P<u>[=\-~^\"'`+.:_*\#])(?P=u){2,}+)[ \t\r]*+$",
    re.MULTILINE,
)
FRONT_MATTER = re.compile(
    r"---[ \t\r]*+\n(?:(?!---[ \t\r]*+$)[^\n]*+\n)*+---[ \t\r]*+$", re.MULTILINE
)
BREAKS = re.compile(
    r"\n(?P<blank>[ \t\r]*+\n(?:[ \t\r]*+\n)*+)?"
    r"(?P<item>[ \t]*+(?:[-*+•][ \t]|\d{1,3}[.)][ \t]|\|))?"
)
SENTENCES = re.compile(r"[.!?…][\"')\]»”’]*+[ \t\r\n]++(?=[^a-z\s])|[。！？]")
CODE = re.compile(
    r"^(?P<indent>[ \t]*+)(?:(?P<closer>[)\]}]|end\b)|(?P<comment>@|\#|//|/\*|\*|--)"
    r"|(?P<definition>(?:(?:export|default|public|private|protected|internal|static|async|abstract"
    r"|final|sealed|override|inline|extern|unsafe|virtual|pub(?:\(\w+\))?)[ \t]++)*+"
    r"(?:class|interface|struct|enum|trait|impl|fn|func|fun|function|def|module|namespace|type"
    r"|union|record|object|sub|procedure|macro_rules!|resource|CREATE|create)\b)|(?=\S))",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading at `start`, its words at [name_start, name_end), `parent` an index or -1."""

    start: int
    level: int
    name_start: int
    name_end: int
    parent: int


@dataclass(slots=True)
class Outline:
    """`cuts` maps an offset where a chunk may begin to its worth (higher is better)."""

    cuts: dict[int, float] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    _open: list[int] = field(default_factory=list)

    def cut(self, position: int, worth: float) -> None:
        if worth > self.cuts.get(position, -9.0):
            self.cuts[position] = worth

    def enter(self, start: int, level: int, name: tuple[int, int]) -> None:
        """Open a section; those of its level and deeper are closed by it."""
        while self._open and self.sections[self._open[-1]].level >= level:
            self._open.pop()
        parent = self._open[-1] if self._open else -1
        self._open.append(len(self.sections))
        self.sections.append(Section(start, level, *name, parent))


def outline(text: str, language: str | None) -> Outline:
    """The outline of a text in markdown (also when None), rst, text, or a language of code."""
    found = Outline()
    if language is None or language in PROSE:
        _prose(text, found, language or "markdown")
    else:
        _code(text, found)
    return found


def _prose(text: str, found: Outline, language: str) -> None:
    front = FRONT_MATTER.match(text)
    position = 0
    levels = {"=": 1, "-": 2} if language == "markdown" else {}
    for block in BLOCKS.finditer(text, front.end() if front else 0):
        if not _is_block(block, language):
            continue
        _breaks(text, position, block.start(), found)
        if block["mark"] is not None:
            _fence(text, block, found)
        else:
            _heading(text, block, found, levels)
        position = block.end()
    _breaks(text, position, len(text), found)


def _is_block(block: re.Match[str], language: str) -> bool:
    if block["level"] is not None:
        return language != "rst"
    if block["u"] is None or block["u"] in "=-":
        return True
    return language != "markdown" and len(block["under"].rstrip()) >= len(block["line"].rstrip())


def _breaks(text: str, start: int, end: int, found: Outline) -> None:
    for match in SENTENCES.finditer(text, start, end):
        found.cut(match.end(), SENTENCE)
    for match in BREAKS.finditer(text, start, end):
        item = match["item"]
        position = match.end() - len(item or "")
        if match["blank"] is not None:
            found.cut(position, LEAD_IN if _after_colon(text, match.start()) else PARAGRAPH)
        else:
            found.cut(position, ITEM if item else LINE)


def _fence(text: str, block: re.Match[str], found: Outline) -> None:
    found.cut(block.start(), LEAD_IN if _after_colon(text, block.start()) else PARAGRAPH)
    for match in BREAKS.finditer(text, block.start(), block.end()):
        worth = FENCED_LINE if match["blank"] is None else FENCED_BLANK
        found.cut(match.end() - len(match["item"] or ""), worth)


def _after_colon(text: str, position: int) -> bool:
    return text[max(0, position - 4) : position].rstrip().endswith(":")


def _heading(text: str, block: re.Match[str], found: Outline, levels: dict[str, int]) -> None:
    if block["level"] is not None:
        level, group = len(block["level"]), "name"
    else:
        level, group = levels.setdefault(block["u"], len(levels) + 1), "line"
    start, end = block.span(group)
    end = start + len(text[start:end].rstrip(" \t\r#"))
    found.cuts[block.start()] = HEADING[min(level, 6) - 1]
    found.enter(block.start(), level, (start, end))


def _code(text: str, found: Outline) -> None:
    lead: int | None = None
    for line, blank in _lines(text):
        start = line.start() if lead is None or blank else lead
        indent = len(line["indent"].expandtabs(4))
        if line["definition"] is not None:
            found.cut(start, DEFINITION[min(indent // 4, 2)])
            found.enter(start, indent, _signature(text, line))
        elif start == line.start():
            found.cut(start, _worth(line, indent, blank))
        lead = start if line["comment"] is not None else None


def _lines(text: str) -> Iterator[tuple[re.Match[str], bool]]:
    """Each line that is not blank, and whether a blank one stands before it."""
    expected = 0
    for line in CODE.finditer(text):
        yield line, line.start() > expected
        expected = text.find("\n", line.end()) + 1


def _worth(line: re.Match[str], indent: int, blank: bool) -> float:
    if line["closer"] is not None:
        return CLOSER
    return BLANK_IN_CODE[min(indent // 4, 2)] if blank else CODE_LINE - 0.02 * min(indent, 16)


def _signature(text: str, line: re.Match[str]) -> tuple[int, int]:
    start = line.start("definition")
    end = text.find("\n", start, start + 120)
    cut = text[start : end if end >= 0 else start + 120]
    return start, start + len(cut.rstrip(" \t\r:{("))
