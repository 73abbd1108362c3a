"""What is left of words in a file: in page text by two readers, in streams, in strings."""

# mypy: disable-error-code="import-untyped"

import io
from collections.abc import Iterator

import pypdfium2
from pypdf import PdfReader
from pypdf.generic import (
    ArrayObject,
    ByteStringObject,
    DictionaryObject,
    NameObject,
    PdfObject,
    StreamObject,
    TextStringObject,
)

from .finding import Search

SHORTEST = 4  # bytes of a word that are searched for in pictures and fonts as they are


def traces(data: bytes, search: Search) -> list[str]:
    """Where the words still are; empty when they are gone."""
    return list(_traces(data, search))


def _traces(data: bytes, search: Search) -> Iterator[str]:
    reader = PdfReader(io.BytesIO(data))
    with pypdfium2.PdfDocument(data) as document:
        for number in range(len(document)):
            if search.has(document[number].get_textpage().get_text_range()):
                yield f"text of page {number + 1}"
    for number, page in enumerate(reader.pages, 1):
        if search.has(page.extract_text()):
            yield f"text of page {number}"
    for place, text in _strings(reader):
        if search.has(text):
            yield place
    raw = [term.encode(code) for t in search.terms for code, term in _forms(t)]
    for place, stream in [("the file", data), *_streams(reader)]:
        small = stream.lower()
        if any(form in small for form in raw):
            yield place


def _forms(term: str) -> Iterator[tuple[str, str]]:
    if len(term) >= SHORTEST:
        yield "utf-8", term
        yield "utf-16-be", term
        if not term.encode("cp1252", "replace").count(b"?"):
            yield "cp1252", term


def _objects(reader: PdfReader) -> Iterator[tuple[str, PdfObject]]:
    listed = {number for table in reader.xref.values() for number in table}
    for number in sorted((listed | set(reader.xref_objStm)) - {0}):
        found = reader.get_object(number)
        if found is not None:
            yield f"object {number}", found
    yield "the trailer", reader.trailer


def _streams(reader: PdfReader) -> Iterator[tuple[str, bytes]]:
    for place, found in _objects(reader):
        if isinstance(found, StreamObject) and found.get("/Subtype") != "/Image":
            yield place, found.get_data()


def _strings(reader: PdfReader) -> Iterator[tuple[str, str]]:
    for place, found in _objects(reader):
        for text in _strings_of(found, 0):
            yield place, text


def _strings_of(value: object, depth: int) -> Iterator[str]:
    if depth > 50:
        return
    if isinstance(value, ByteStringObject):
        yield bytes(value).decode("latin-1")
    elif isinstance(value, TextStringObject | NameObject):
        yield str(value)
    elif isinstance(value, DictionaryObject):
        for key, inner in value.items():
            yield str(key)
            yield from _strings_of(inner, depth + 1)
    elif isinstance(value, ArrayObject):
        for inner in value:
            yield from _strings_of(inner, depth + 1)
