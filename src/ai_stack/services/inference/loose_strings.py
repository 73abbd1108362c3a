"""Strings as models write them: which quotation mark ends one, and what its escapes stand for."""

import json
import re

MOST_MARKS = 20_000
SPACE = re.compile(
    r"(?:\s|//[^\n]*|/\*.*?\*/|(?:(?<=\s)|\A)#[^\n]*|\\[nrt](?=[\s\\\[{}\]\",\d-]))*", re.S
)
QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”“", "”": "”", "„": "“”", "‘": "’‘", "’": "’"}
_MARKS = {ends: re.compile(r"\\.|[" + ends + "]", re.S) for ends in QUOTES.values()}
_KEY_AHEAD = re.compile(r"[\"“'‘][\w$ .-]{1,64}[\"”'’]\s*:")
_VALUE_AHEAD = re.compile(r"[\"“'‘`\[{(\d+-]|[tT]rue|[fF]alse|null|None")
_CLOSERS = re.compile(r"[\s}\])]*")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.S
)
_MARKS_WITHIN = re.compile(r"\\.|(?<!\w)'|'(?!\w)|\"", re.S)
_DRIVE = re.compile(r"[A-Za-z]:\\(?!\\)")
_PLAIN = {"'": "'", "`": "`", "’": "’", "‘": "‘"}


class Unreadable(ValueError):
    """The text cannot be read as JSON without guessing."""


def string_end(text: str, start: int, within: str, *, guess: bool) -> tuple[int, int]:
    """Where the body of the string that opens at `start` ends, and where what follows begins.

    `within` is the closer of what the string stands in, ":" for a key. With `guess`, a quotation
    mark ends it only where JSON could go on after it; without, the first one does.
    """
    if text.startswith('"""', start):
        return _tripled_end(text, start + 3)
    closers = QUOTES[text[start]]
    balance = _Balance(text, start + 1)
    for count, mark in enumerate(_MARKS[closers].finditer(text, start + 1)):
        at = mark.start()
        if count > MOST_MARKS:
            break
        if mark[0][0] == "\\":
            continue
        if not guess or (_may_end(text, at + 1, within) and balance.even(at)):
            _check_pairs(text[start], text[start + 1 : at])
            return at, at + 1
    raise Unreadable("a string does not end")


def unescaped(body: str, faults: set[str]) -> str:
    """What a body stands for; an escape that JSON does not know stands for itself."""
    if "\\" not in body:
        return body
    literal = bool(_DRIVE.match(body))

    def one(match: re.Match[str]) -> str:
        escape = match[0]
        if escape[1] in _PLAIN:
            faults.add("bad-escape")
            return _PLAIN[escape[1]]
        if escape[1] not in ('"\\' if literal else '"\\/bfnrtu') or escape == "\\u":
            faults.add("bad-escape")
            return escape
        return str(json.loads(f'"{escape}"'))

    return _ESCAPE.sub(one, body)


def _check_pairs(quote: str, body: str) -> None:
    """Quotation marks within a string come in pairs: where not, its end is not the right one."""
    marks = _MARKS_WITHIN.findall(body) if quote in "\"'" and quote in body else []
    if marks.count(quote) % 2:
        raise Unreadable("a quotation mark without its like")


class _Balance:
    """Whether the braces of a body that is itself JSON or code in braces are even so far."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._counted = start
        self._open = 0
        self._braced = text[start : start + 16].lstrip()[:1] in ("{", "[")

    def even(self, at: int) -> bool:
        if self._braced:
            part = self._text[self._counted : at]
            self._open += sum(map(part.count, "{[")) - sum(map(part.count, "}]"))
            self._counted = at
        return self._open <= 0


def _tripled_end(text: str, start: int) -> tuple[int, int]:
    end = text.find('"""', start)
    if end < 0:
        raise Unreadable("a string does not end")
    return end, end + 3


def _may_end(text: str, at: int, within: str) -> bool:
    """Whether JSON could go on at `at`, behind a string that stands within."""
    if text[at : at + 1].isalnum():
        return False
    at = _blank_end(text, at)
    following = text[at : at + 1]
    if within == ":":
        return following in (":", "=")
    if following == "":
        return True
    if following == ",":
        return _may_follow(text, at + 1, within)
    if following in "}])":
        return _closes(text, at)
    if within == "}":
        return at > 0 and text[at - 1].isspace() and bool(_KEY_AHEAD.match(text, at))
    return following in QUOTES and text[at - 1].isspace()


def _may_follow(text: str, at: int, within: str) -> bool:
    """Whether a comma before `at` separates members."""
    at = _blank_end(text, at)
    if text[at : at + 1] in ("", "}", "]"):
        return True
    return bool((_KEY_AHEAD if within == "}" else _VALUE_AHEAD).match(text, at))


def _closes(text: str, at: int) -> bool:
    """Whether the closers at `at` lead to the end, or to a further member."""
    closers = _CLOSERS.match(text, at)
    at = closers.end() if closers else at
    if text[at : at + 1] == ",":
        return bool(_KEY_AHEAD.match(text, _blank_end(text, at + 1))) or bool(
            _VALUE_AHEAD.match(text, _blank_end(text, at + 1))
        )
    return text[at : at + 1] in ("", "{")


def _blank_end(text: str, at: int) -> int:
    space = SPACE.match(text, at)
    return space.end() if space else at
