"""Any other XML: its text, an element a paragraph; as it stands where it is mostly attributes."""

from io import BytesIO

from ai_stack.parsers import Parsed, Source
from ai_stack.parsers.archive import Handler, read_xml
from ai_stack.parsers.charset import decoded

LEAST_TEXT = 0.05


def parse(source: Source) -> Parsed:
    words = Words()
    read_xml(BytesIO(source.data), words)
    text = "\n\n".join(words.blocks)
    if len(text) < LEAST_TEXT * len(source.data):
        raw, metadata = decoded(source)
        return Parsed(raw, words.title, metadata, "xml")
    return Parsed(text, words.title, {}, "text")


class Words(Handler):
    """Collects blocks; an element within a line of text is part of that line."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.title = ""
        self._line: list[str] = []
        self._depth = self._begun = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1

    def text(self, text: str) -> None:
        if not self._line and text.strip():
            self._begun = self._depth
        if self._line or text.strip():
            self._line.append(text)

    def end(self, tag: str) -> None:
        if tag == "title" and not self.title:
            self.title = " ".join("".join(self._line).split())
        if self._depth <= self._begun:
            self._flush()
        self._depth -= 1

    def _flush(self) -> None:
        if text := " ".join("".join(self._line).split()):
            self.blocks.append(text)
        self._line = []
