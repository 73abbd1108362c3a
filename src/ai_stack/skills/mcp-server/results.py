"""What a tool answered: its text, its structured content, and its media as files.

Contents are the server's own words: bounded and without the secrets of its entry, else untouched.
"""

import base64
import binascii
import json
import mimetypes
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from ai_stack.skill import JSON

from .masking import Mask

MAX_TEXT, MAX_STRUCTURED_BYTES, MAX_FILES, MAX_FILE_BYTES = 200_000, 1 << 20, 32, 32 << 20
UNSAFE = re.compile(r"[^\w.-]+")
PLAIN_SUFFIXES = {"image/jpeg": ".jpg", "audio/mpeg": ".mp3", "audio/wav": ".wav"}


@dataclass(slots=True)
class Answer:
    """A call's outcome on its way to the caller; `place` gives a path for each file."""

    tool: str
    mask: Mask
    place: Callable[[str], Path]
    texts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    left_bytes: int = MAX_FILE_BYTES

    def take(self, block: ContentBlock) -> None:
        """Add one block of the content."""
        match block:
            case TextContent():
                self.texts.append(block.text)
            case ImageContent() | AudioContent():
                self._media(block.data, block.mime_type)
            case EmbeddedResource(resource=BlobResourceContents() as blob):
                self._media(blob.blob, blob.mime_type or "", blob.uri)
            case EmbeddedResource(resource=TextResourceContents() as resource):
                self.texts.append(resource.text)
            case ResourceLink():
                self.texts.append(f"{block.name}: {block.uri}")

    def text(self) -> str:
        """All texts together; one that is too long for an answer is a file as well."""
        whole = self.mask.text("\n".join(self.texts))
        if len(whole) <= MAX_TEXT:
            return whole
        self.write(f"{self.tool}.txt", whole.encode())
        self.notes.append(f"The text has {len(whole)} characters; the file has all of them.")
        return whole[:MAX_TEXT]

    def structured(self, content: object) -> Iterator[tuple[str, JSON]]:
        """The structured content, as a file where it is too large for an answer."""
        if content is None:
            return
        shown = self.mask.value(content)
        text = json.dumps(shown)
        if len(text) <= MAX_STRUCTURED_BYTES:
            yield "structured", shown
            return
        self.write(f"{self.tool}.json", text.encode())
        self.notes.append("The structured content is large: the file has it.")

    def write(self, name: str, data: bytes) -> None:
        """Make a file of the call, unless it made too many."""
        self.left_bytes -= len(data)
        if self.files >= MAX_FILES or self.left_bytes < 0:
            self.notes.append(f"{name} is left out: a call gives 32 files, 32 MiB together.")
            return
        self.files += 1
        self.place(UNSAFE.sub("-", name)[-100:]).write_bytes(self.mask.data(data))

    def _media(self, data: str, media_type: str, uri: str = "") -> None:
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            self.notes.append("A file is left out: what should be base64 is not.")
            return
        self.write(Path(uri).name or f"{self.tool}{_suffix(media_type)}", content)


def answer_json(server: str, result: CallToolResult, answer: Answer) -> dict[str, JSON]:
    """A call's output; its files are written on the way."""
    for block in result.content:
        answer.take(block)
    about: dict[str, JSON] = {"server": server, "tool": answer.tool}
    about["is_error"] = bool(result.is_error)
    about["text"] = answer.text()
    return {**about, **dict(answer.structured(result.structured_content))}


def _suffix(media_type: str) -> str:
    kind = media_type.partition(";")[0].strip().lower()
    return PLAIN_SUFFIXES.get(kind) or mimetypes.guess_extension(kind) or ".bin"
