"""Bytes to text: byte order mark, declared charset, UTF-8, then a guess that is told."""

import codecs
from collections.abc import Mapping

from charset_normalizer import from_bytes

from ai_stack.errors import Unsupported
from ai_stack.parsers import Source, Value

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
GUESSED_FROM = 1 << 18
BINARY = bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})


def decoded(source: Source, declared: str | None = None) -> tuple[str, Mapping[str, Value]]:
    """The text and, where it is not UTF-8, how it was read.

    Raises Unsupported when the bytes are no text: a wrong guess would be stored for good.
    """
    data = source.data
    for mark, charset in MARKS:
        if data.startswith(mark):
            return _replacing(data, charset)
    for charset in filter(None, (source.charset, declared, "utf-8")):
        if (text := _strict(data, charset)) is not None and _is_text(data, charset):
            return text, {} if charset.lower() in ("utf-8", "utf8", "ascii") else {
                "charset": charset
            }
    return _guessed(data)


def _strict(data: bytes, charset: str) -> str | None:
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError, ValueError):
        return None


def _is_text(data: bytes, charset: str) -> bool:
    """Few control characters: one in two hundred bytes may be."""
    if charset.lower().startswith(("utf-16", "utf-32", "utf16", "utf32")):
        return True
    head = data[:GUESSED_FROM]
    return len(head) - len(head.translate(None, BINARY)) <= max(2, len(head) // 200)


def _replacing(data: bytes, charset: str) -> tuple[str, Mapping[str, Value]]:
    text = data.decode(charset, "replace")
    lost = text.count("\ufffd")
    metadata: dict[str, Value] = {} if charset == "utf-8-sig" else {"charset": charset}
    return text, {**metadata, "replaced_characters": lost} if lost else metadata


def _guessed(data: bytes) -> tuple[str, Mapping[str, Value]]:
    head = data[:GUESSED_FROM]
    zeros = head.count(0)
    if not zeros and not _is_text(data, ""):
        raise Unsupported("This file is binary; the stack cannot read it.")
    if not zeros and len(data.decode("utf-8", "ignore").encode()) > 0.999 * len(data):
        return _replacing(data, "utf-8")
    best = from_bytes(head).best()
    if best is None or (zeros and not best.encoding.startswith(("utf_16", "utf_32"))):
        raise Unsupported("This file is binary, or in a charset that the stack cannot tell.")
    text, metadata = _replacing(data, best.encoding)
    return text, {**metadata, "charset": best.encoding, "charset_guessed": True}
