"""Multipart bodies as a stream of files and fields: nothing is kept but the field under way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from ai_stack.errors import InvalidRequest, TooLarge, TooSlow
from ai_stack.services.uploads import (
    MAX_FIELD_BYTES,
    FieldValue,
    FileBegins,
    FileEnds,
    FilePiece,
    UploadEvent,
)

MALFORMED = "This is not a whole multipart body."
MAX_FIELDS = 100
SILENT_S = 60.0  # a body that may be large, and whose sender may be slow


async def read_form(content_type: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[UploadEvent]:
    """The files and fields of a multipart/form-data body, as they come.

    Raises InvalidRequest for a body that is malformed or cut short, TooLarge for a field over
    MAX_FIELD_BYTES, TooSlow for a body that stands still for SILENT_S.
    """
    _, options = parse_options_header(content_type)
    form = Form(options.get(b"boundary", b""))
    try:
        async for chunk in moving(chunks):
            for event in form.feed(chunk):
                yield event
    except ClientDisconnect as error:
        raise InvalidRequest(MALFORMED) from error
    if not form.ended:
        raise InvalidRequest(MALFORMED)


async def moving(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a body as long as they come; TooSlow."""
    while True:
        try:
            async with asyncio.timeout(SILENT_S):
                chunk = await anext(chunks)
        except TimeoutError:
            raise TooSlow from None
        except StopAsyncIteration:
            return
        yield chunk


@dataclass
class Form:
    """One body under way."""

    boundary: bytes
    ended: bool = False
    _events: list[UploadEvent] = field(default_factory=list)
    _headers: dict[str, str] = field(default_factory=dict)
    _header: bytearray = field(default_factory=bytearray)
    _header_value: bytearray = field(default_factory=bytearray)
    _name: str | None = None
    _value: bytearray = field(default_factory=bytearray)
    _fields: int = 0

    def __post_init__(self) -> None:
        if not self.boundary:
            raise InvalidRequest("A multipart request names its boundary.")
        try:
            self._parser = MultipartParser(
                self.boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_part,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise InvalidRequest(MALFORMED) from error

    def feed(self, chunk: bytes) -> list[UploadEvent]:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequest(MALFORMED) from error
        events, self._events = self._events, []
        return events

    def _part_begin(self) -> None:
        self._headers.clear()
        self._name = None
        self._value.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_part(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        name = self._header.decode("latin-1").lower()
        self._headers[name] = self._header_value.decode("latin-1")
        self._header.clear()
        self._header_value.clear()

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get("content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise InvalidRequest("A part of this request has no name.")
        if b"filename" in options:
            media_type = self._headers.get("content-type", "").partition(";")[0].strip().lower()
            name = _text(options[b"filename"])
            self._events.append(FileBegins(_unescaped(name), media_type or None))
        else:
            self._fields += 1
            self._name = _text(options[b"name"])
            if self._fields > MAX_FIELDS:
                raise InvalidRequest(f"A request has at most {MAX_FIELDS} fields.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._events.append(FilePiece(data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise TooLarge(f"A field has at most {MAX_FIELD_BYTES} bytes.")

    def _part_end(self) -> None:
        if self._name is None:
            self._events.append(FileEnds())
        else:
            self._events.append(FieldValue(self._name, bytes(self._value)))

    def _end(self) -> None:
        self.ended = True


def _text(raw: bytes) -> str:
    """A name as browsers and libraries send it: UTF-8 in bytes that were taken for Latin-1."""
    return raw.decode("utf-8", "replace")


def _unescaped(name: str) -> str:
    """The three signs that HTML's forms escape in a file's name."""
    for escape in ("%22", "%0D", "%0A"):
        name = name.replace(escape, unquote(escape))
    return name
