"""Keeps the secrets of a server's entry out of all that is told, and texts free of tricks.

A value shorter than four characters is no secret here: hiding it would hide half of every text.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl, unquote, urlsplit

from ai_stack.skill import JSON

from .servers import Command, Endpoint, Way

HIDDEN, SHORTEST, LONG_ENOUGH, LONG_SEGMENT, DEEPEST = "•••", 4, 8, 20, 64
TELLING = re.compile(r"key|token|secret|pass|pwd|auth|cred|cookie|session|private", re.IGNORECASE)
OPEN_HEADERS = {"accept", "content-type", "user-agent"}
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
SELECTORS = range(0xE0100, 0xE01F0)


@dataclass(frozen=True)
class Mask:
    """Hides what an entry keeps secret, wherever a server puts it."""

    way: Way | None

    @cached_property
    def secrets(self) -> list[str]:
        """What is hidden, the longest first, so that no part of one stays."""
        found = set(_secrets(self.way)) if self.way else set()
        return sorted((s for s in found if len(s) >= SHORTEST), key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text without secrets and control characters."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return CONTROLS.sub("", text)

    def data(self, data: bytes) -> bytes:
        """A file's bytes without secrets."""
        for secret in self.secrets:
            data = data.replace(secret.encode(), HIDDEN.encode())
        return data

    def value(self, value: object, depth: int = 0) -> JSON:
        """A value of JSON without secrets, of numbers that JSON has, and not without bottom."""
        if depth > DEEPEST:
            return None
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.value(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        return value if isinstance(value, bool | int) else None


def visible(text: str) -> str:
    """A text without characters that nobody sees but a model reads."""
    return "".join(c for c in text if c in "\n\t" or not _unseen(c))


def _unseen(character: str) -> bool:
    return unicodedata.category(character)[0] == "C" or ord(character) in SELECTORS


def _secrets(way: Way) -> Iterator[str]:
    if isinstance(way, Command):
        for name, value in way.env.items():
            yield from _of_variable(name, value)
        yield from _of_arguments(way.args)
    else:
        yield from _of_endpoint(way)


def _of_variable(name: str, value: str) -> Iterator[str]:
    """Every value of a variable may be one, but for paths and what is too short to be."""
    if TELLING.search(name) or (len(value) >= LONG_ENOUGH and not value.startswith(("/", "~"))):
        yield value
    yield from _of_url(value)


def _of_arguments(args: list[str]) -> Iterator[str]:
    before = ""
    for argument in args:
        name, assigned, value = argument.partition("=")
        if assigned and TELLING.search(name):
            yield value
        elif before.startswith("-") and "=" not in before and TELLING.search(before):
            yield argument
        yield from _of_header_text(argument)
        yield from _of_url(argument)
        before = argument


def _of_header_text(argument: str) -> Iterator[str]:
    """As in `--header "Authorization: Bearer …"`."""
    name, colon, value = argument.partition(":")
    if colon and TELLING.search(name) and not value.startswith("//"):
        yield from _of_header(value.strip())


def _of_header(value: str) -> Iterator[str]:
    yield value
    yield from value.split()[1:]


def _of_endpoint(way: Endpoint) -> Iterator[str]:
    for name, value in way.headers.items():
        if name.lower() not in OPEN_HEADERS:
            yield from _of_header(value)
    yield from _of_url(way.url)


def _of_url(text: str) -> Iterator[str]:
    try:
        parts = urlsplit(text)
    except ValueError:
        return
    if not parts.scheme or not parts.netloc:
        return
    for secret in (parts.password, parts.username if not parts.password else None):
        yield from (secret, unquote(secret)) if secret else ()
    yield from (value for name, value in parse_qsl(parts.query) if len(value) >= SHORTEST)
    yield from (s for s in parts.path.split("/") if len(s) >= LONG_SEGMENT)
