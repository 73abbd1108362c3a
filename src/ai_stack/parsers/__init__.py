"""The door to files: bytes in, readable text out.

One file a format family; a parser is a function from a Source to a Parsed. They see hostile
input and run in worker processes only (pool.py starts them, child.py is what runs there).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ai_stack.errors import InvalidRequest, TooLarge

Value = str | int | bool | list[str]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may become: bytes of all its members together, and of its text."""

    expanded_bytes: int = 512 << 20
    text_bytes: int = 128 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it came: `name` with its extension, `charset` as its sender declared it."""

    name: str
    data: bytes
    charset: str | None = None
    limits: Limits = Limits()

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name.replace("\\", "/")).stem or self.name


@dataclass(frozen=True, slots=True)
class Parsed:
    """Text with headings, code and tables in Markdown.

    `language` tells how it is structured: markdown, rst, text or a language of code; `metadata`
    is what the file says of itself (author, created, pages, …) and what was changed in reading.
    """

    text: str
    title: str
    metadata: Mapping[str, Value] = field(default_factory=dict)
    language: str = "markdown"


Parser = Callable[[Source], Parsed]


def finished(parsed: Parsed, source: Source) -> Parsed:
    """The text as PostgreSQL can store it; InvalidRequest when there is none.

    NUL and lone surrogates become U+FFFD, counted in the metadata as `replaced_characters`.
    """
    text = parsed.text.replace("\r\n", "\n").replace("\r", "\n")
    text, replaced = storable(text)
    if not text.strip():
        raise InvalidRequest("There is no text in this file; a scan needs text recognition first.")
    if len(text) > source.limits.text_bytes // 4 and len(text.encode()) > source.limits.text_bytes:
        raise TooLarge("The text in this file is larger than the stack accepts.")
    title = " ".join(storable(parsed.title)[0].split())[:300] or source.stem
    metadata = {key: _clean(value) for key, value in parsed.metadata.items() if value}
    if replaced:
        metadata["replaced_characters"] = replaced + int(
            str(metadata.get("replaced_characters", 0))
        )
    return Parsed(text.strip("\n").rstrip() + "\n", title, metadata, parsed.language)


def storable(text: str) -> tuple[str, int]:
    """Text without NUL and lone surrogates, and how many there were."""
    lone = 0
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            encoded = text.encode("utf-16-le", "surrogatepass")
            whole = encoded.decode("utf-16-le", "replace")
            lone = whole.count("\ufffd") - text.count("\ufffd")
            text = whole
    return text.replace("\0", "\ufffd"), lone + text.count("\0")


def _clean(value: Value) -> Value:
    return storable(value)[0] if isinstance(value, str) else value
