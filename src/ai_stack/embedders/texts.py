"""Texts on their way to a tokenizer; it knows no model."""

import re
from collections.abc import Iterator, Sequence

from ai_stack.errors import ContextTooLong, InvalidRequest

PIECE = 1 << 14
LONGEST_BYTES = 48 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s")


def readable(texts: Sequence[str]) -> list[str]:
    """The texts with lone surrogates, which no tokenizer can read, as U+FFFD.

    Offsets stay what they were. More than 48 MiB at once raises InvalidRequest.
    """
    checked, size_bytes = [], 0
    for text in texts:
        try:
            size_bytes += len(text.encode())
        except UnicodeEncodeError:
            text = _SURROGATE.sub("\ufffd", text)
            size_bytes += len(text.encode())
        checked.append(text)
    if size_bytes > LONGEST_BYTES:
        raise InvalidRequest(f"The texts of one call are limited to {LONGEST_BYTES >> 20} MiB.")
    return checked


def pieces(text: str) -> Iterator[tuple[int, str]]:
    """The text cut before white space every 16k characters or later: (offset, piece).

    A tokenizer that never joins words over white space gives the same tokens for the pieces.
    """
    start = 0
    while start < len(text):
        space = _SPACE.search(text, start + PIECE)
        end = space.start() if space else len(text)
        yield start, text[start:end]
        start = end


def check_lengths(tokens: Sequence[int], limit: int, first: int = 0) -> None:
    """Raise ContextTooLong when a text has more tokens than `limit`, naming which and how many.

    `first` is the number of the first text in the caller's own count.
    """
    too_long = {str(first + i): str(n) for i, n in enumerate(tokens) if n > limit}
    if too_long:
        named = ", ".join(f"text {i} has {n} tokens" for i, n in list(too_long.items())[:5])
        raise ContextTooLong(f"The model reads at most {limit} tokens: {named}.", fields=too_long)
