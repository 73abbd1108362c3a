"""Presentations: each slide a section with its text, tables and speaker notes."""

import posixpath
import zipfile

from ai_stack.parsers import Parsed, Source
from ai_stack.parsers.archive import Handler, Relations, opened, properties, read_member
from ai_stack.parsers.html import markdown_table

TITLES = frozenset({"title", "ctrTitle"})
UNREAD = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})


def parse(source: Source) -> Parsed:
    with opened(source) as archive:
        metadata = properties(archive)
        order = Order()
        read_member(archive, "ppt/presentation.xml", order, needed=True)
        targets = _relations(archive, "ppt/presentation.xml").targets
        slides = [
            posixpath.normpath(posixpath.join("ppt", targets[i])) for i in order.ids if i in targets
        ]
        read = [_slide(archive, name, number) for number, name in enumerate(slides, 1)]
    text = "\n\n".join(section for section, _ in read if section)
    title = str(metadata.pop("title", "")) or next((title for _, title in read if title), "")
    if title in ("PowerPoint Presentation", "PowerPoint-Präsentation"):
        title = read[0][1] if read else ""
    return Parsed(text, title, {**metadata, "slides": len(slides)})


def _relations(archive: zipfile.ZipFile, name: str) -> Relations:
    folder, base = posixpath.split(name)
    relations = Relations()
    read_member(archive, f"{folder}/_rels/{base}.rels", relations)
    return relations


def _slide(archive: zipfile.ZipFile, name: str, number: int) -> tuple[str, str]:
    """A slide's section and its title."""
    slide, notes = Slide(), Slide()
    read_member(archive, name, slide)
    if target := _relations(archive, name).kinds.get("notesSlide"):
        read_member(
            archive, posixpath.normpath(posixpath.join(posixpath.dirname(name), target)), notes
        )
    blocks = list(slide.blocks)
    if notes.blocks:
        blocks.append("Notes: " + "\n\n".join(notes.blocks))
    if not blocks and not slide.title:
        return "", ""
    return "\n\n".join([f"## {slide.title or f'Slide {number}'}", *blocks]), slide.title


class Order(Handler):
    """Relation ids of the slides as they are shown."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "sldId" and "r:id" in attributes:
            self.ids.append(attributes["r:id"])


class Slide(Handler):
    """Collects the blocks of one slide."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.title = ""
        self._kind, self._level = "", 0
        self._lines: list[str] = []
        self._line: list[str] = []
        self._rows: list[list[str]] = []
        self._reading = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "sp":
            self._kind = ""
        elif tag == "ph":
            self._kind = attributes.get("type", "body")
        elif tag == "t":
            self._reading = self._kind not in UNREAD
        elif tag == "pPr":
            self._level = (
                int(attributes.get("lvl", "0")) if attributes.get("lvl", "0").isdecimal() else 0
            )
        elif tag == "br":
            self._line.append(" ")
        elif tag == "tr":
            self._rows.append([])

    def text(self, text: str) -> None:
        if self._reading:
            self._line.append(text)

    def end(self, tag: str) -> None:
        if tag == "t":
            self._reading = False
        elif tag == "p":
            self._paragraph()
        elif tag == "tc" and self._rows:
            self._rows[-1].append(" ".join(self._lines))
            self._lines = []
        elif tag in ("sp", "tbl"):
            self._close(tag)

    def _paragraph(self) -> None:
        line = " ".join("".join(self._line).split())
        if line:
            self._lines.append("  " * min(self._level, 8) + ("- " if self._level else "") + line)
        self._line, self._level = [], 0

    def _close(self, tag: str) -> None:
        block = markdown_table(self._rows) if tag == "tbl" else "\n".join(self._lines)
        if tag == "sp" and self._kind in TITLES and not self.title:
            self.title = " ".join(block.split())
        elif block:
            self.blocks.append(block)
        self._rows, self._lines = [], []
