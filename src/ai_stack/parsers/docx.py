"""Word documents: paragraphs, headings, lists and tables, in the order of the text."""

import re
import zipfile

from ai_stack.parsers import Parsed, Source
from ai_stack.parsers.archive import Handler, opened, properties, read_member
from ai_stack.parsers.html import markdown_table

HEADING_NAME = re.compile(r"heading\s*([1-9])")
LISTED = -1
SKIPPED = frozenset({"Fallback", "del", "moveFrom"})


def parse(source: Source) -> Parsed:
    with opened(source) as archive:
        metadata = properties(archive)
        body = Body(_styles(archive))
        read_member(archive, "word/document.xml", body, needed=True)
        for notes in ("word/footnotes.xml", "word/endnotes.xml"):
            read_member(archive, notes, body)
    title = str(metadata.pop("title", "")) or body.title
    return Parsed("".join(body.blocks), title, metadata)


def _styles(archive: zipfile.ZipFile) -> dict[str, int]:
    styles = Styles()
    read_member(archive, "word/styles.xml", styles)
    return styles.levels


class Styles(Handler):
    """Heading levels by style id, from the style's name or outline level."""

    def __init__(self) -> None:
        self.levels: dict[str, int] = {}
        self._style = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        value = attributes.get("w:val", "")
        if tag == "style":
            self._style = attributes.get("w:styleId", "")
        elif tag == "name" and self._style:
            self._named(value.lower())
        elif tag == "outlineLvl" and value.isdecimal() and int(value) < 9:
            self.levels.setdefault(self._style, int(value) + 1)

    def _named(self, name: str) -> None:
        if found := HEADING_NAME.fullmatch(name):
            self.levels[self._style] = int(found[1])
        elif name.startswith("list"):
            self.levels[self._style] = LISTED
        elif name == "title":
            self.levels[self._style] = 1


class Body(Handler):
    """Collects blocks; text in a table goes to its cell, nested tables to the outer one."""

    def __init__(self, levels: dict[str, int]) -> None:
        self.blocks: list[str] = []
        self.title = ""
        self._levels, self._level, self._item = levels, 0, -1
        self._line: list[str] = []
        self._rows: list[list[str]] = []
        self._tables = self._skipping = 0
        self._reading = self._listed = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in SKIPPED:
            self._skipping += 1
        elif tag == "t":
            self._reading = not self._skipping
        elif tag in ("tab", "br", "cr") and self._line:
            self._line.append(" " if tag == "tab" else "\n")
        elif tag in ("pStyle", "outlineLvl", "ilvl"):
            self._describe(tag, attributes.get("w:val", ""))
        elif tag in ("tbl", "tr", "tc"):
            self._open(tag)

    def _describe(self, tag: str, value: str) -> None:
        if tag == "pStyle":
            self._level = max(0, self._levels.get(value, 0))
            self._item = 0 if self._levels.get(value) == LISTED else self._item
        elif tag == "ilvl" and value.isdecimal():
            self._item = min(int(value), 8)
        elif value.isdecimal() and int(value) < 9:
            self._level = int(value) + 1

    def _open(self, tag: str) -> None:
        if tag == "tbl":
            self._tables += 1
        elif self._tables == 1:
            (self._rows if tag == "tr" else self._rows[-1]).append([] if tag == "tr" else "")  # type: ignore[arg-type]

    def text(self, text: str) -> None:
        if self._reading:
            self._line.append(text)

    def end(self, tag: str) -> None:
        if tag in SKIPPED:
            self._skipping -= 1
        elif tag == "t":
            self._reading = False
        elif tag == "p":
            self._paragraph()
        elif tag == "tbl":
            self._close_table()

    def _paragraph(self) -> None:
        text = "".join(self._line).strip()
        level, item = self._level, self._item
        self._line, self._level, self._item = [], 0, -1
        if not text:
            return
        if self._tables and self._rows and self._rows[-1]:
            self._rows[-1][-1] = f"{self._rows[-1][-1]} {text}".strip()
        elif level:
            self.title = self.title or text
            self._put("#" * min(level, 6) + " " + " ".join(text.split()))
        elif item >= 0:
            self._put("  " * item + "- " + " ".join(text.split()), listed=True)
        else:
            self._put(text)

    def _put(self, block: str, *, listed: bool = False) -> None:
        if self.blocks:
            self.blocks.append("\n" if listed and self._listed else "\n\n")
        self.blocks.append(block)
        self._listed = listed

    def _close_table(self) -> None:
        self._tables -= 1
        if not self._tables:
            if table := markdown_table(self._rows):
                self._put(table)
            self._rows = []
