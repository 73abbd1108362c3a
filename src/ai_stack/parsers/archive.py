"""Zip containers and their XML, opened so that no bomb goes off.

Sizes are checked in the directory before anything is read (zipfile never reads more of a member
than its entry says); XML may not declare entities, and may not nest without end.
"""

import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import IO
from xml.parsers import expat

from ai_stack.errors import InvalidRequest, TooLarge, Unsupported
from ai_stack.parsers import Source, Value

MEMBERS, DEPTH, BLOCK = 20_000, 1000, 1 << 16
RATIO, RATIO_FROM = 100, 64 << 20
KINDS = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
    "xl/workbook.bin": "xlsx",
    "META-INF/container.xml": "epub",
}
SPREADSHEET = b"application/vnd.oasis.opendocument.spreadsheet"


def kind_of(source: Source) -> str:
    """The format of a zip container; Unsupported for any other archive."""
    with opened(source) as archive:
        names = set(archive.namelist())
        for name, kind in KINDS.items():
            if name in names:
                return kind
        if "mimetype" in names and archive.read("mimetype").startswith(SPREADSHEET):
            return "xlsx"
    raise Unsupported("The stack reads no archives of this kind; unpack it first.")


def opened(source: Source) -> zipfile.ZipFile:
    """The archive, once its directory says that it is of a bearable size."""
    try:
        archive = zipfile.ZipFile(BytesIO(source.data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise InvalidRequest("This file is damaged or cut off.") from error
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    ratio = total / max(1, len(source.data))
    if total > source.limits.expanded_bytes or (total > RATIO_FROM and ratio > RATIO):
        raise TooLarge("This file expands to more than the stack accepts.")
    if len(entries) > MEMBERS:
        raise TooLarge("This file holds more parts than the stack accepts.")
    if any(entry.flag_bits & 1 for entry in entries):
        raise InvalidRequest("This file is protected by a password.")
    return archive


class Handler:
    """What reads XML: local names of elements and attributes, and text."""

    def start(self, tag: str, attributes: dict[str, str]) -> None: ...

    def end(self, tag: str) -> None: ...

    def text(self, text: str) -> None: ...


def read_xml(stream: IO[bytes], handler: Handler) -> None:
    """Feed a stream to a handler; InvalidRequest where it is no sound XML."""
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH:
            raise TooLarge("The XML in this file is nested too deeply.")
        handler.start(tag.rpartition(":")[2], attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(tag.rpartition(":")[2])

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = handler.text
    parser.EntityDeclHandler = _refuse
    try:
        while block := stream.read(BLOCK):
            parser.Parse(block, False)
        parser.Parse(b"", True)
    except (expat.ExpatError, zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise InvalidRequest("This file is damaged: its XML does not read.") from error
    except zipfile.zlib.error as error:  # type: ignore[attr-defined]
        raise InvalidRequest("This file is damaged: a part does not unpack.") from error


def _refuse(*_: object) -> None:
    raise InvalidRequest("The XML in this file declares entities, which are not read.")


def read_member(
    archive: zipfile.ZipFile, name: str, handler: Handler, *, needed: bool = False
) -> None:
    """Feed one member, if there; InvalidRequest when it is needed and missing."""
    try:
        stream = archive.open(name)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        if needed:
            raise InvalidRequest("This file is damaged: a part is missing.") from error
        return
    with stream:
        read_xml(stream, handler)


class Collector(Handler):
    """The text of some elements by name, e.g. of docProps/core.xml."""

    def __init__(self, wanted: Callable[[str], str | None]) -> None:
        self.found: dict[str, str] = {}
        self._wanted, self._key = wanted, None

    _key: str | None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._key = self._wanted(tag)

    def end(self, tag: str) -> None:
        self._key = None

    def text(self, text: str) -> None:
        if self._key is not None:
            self.found[self._key] = self.found.get(self._key, "") + text


PROPERTIES = {"title": "title", "creator": "author", "created": "created", "language": "language"}


def properties(archive: zipfile.ZipFile, name: str = "docProps/core.xml") -> dict[str, Value]:
    """Title, author, created and language as the container states them."""
    collector = Collector(PROPERTIES.get)
    read_member(archive, name, collector)
    return {key: value.strip() for key, value in collector.found.items()}


class Relations(Handler):
    """Targets by id and the type's last word, from a .rels member."""

    def __init__(self) -> None:
        self.targets: dict[str, str] = {}
        self.kinds: dict[str, str] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and "Id" in attributes:
            target = attributes.get("Target", "")
            self.targets[attributes["Id"]] = target
            self.kinds[attributes.get("Type", "").rpartition("/")[2]] = target
