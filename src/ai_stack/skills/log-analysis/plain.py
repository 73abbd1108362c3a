"""Lines of text: the time that they begin with, a word for the level, a source, and the rest."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeAlias

from .times import MONTHS, iso_seconds, sane, seconds_of

Found: TypeAlias = tuple[str, float | None, str, str, str]

ISO = re.compile(
    r"[\[(<]?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?)"
    r"[\])>]?[ \t:|-]*"
)
SYSLOG = re.compile(
    r"(?:<\d{1,3}>)?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d)(?:\.\d+)? "
    r"(\S+) ([^\s:\[]{1,100})(?:\[\d+\])?: ?"
)
ACCESS = re.compile(
    r'(\S+) \S+ \S+ \[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\] "([^"]*)" '
    r"(\d{3}) (\S+)"
)
EPOCH = re.compile(r"\[?(\d{10}(?:\.\d+)?|\d{13}|\d{16}|\d{19})\]?[ \t:|]+")
PROCESS = re.compile(r"\[[\d.:@#-]+\][ :]*")
WORD = re.compile(
    r"\b(trace|debug|info|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|panic|severe|"
    r"alert|emerg(?:ency)?|log)\b",
    re.IGNORECASE,
)
SOURCE = re.compile(r"([A-Za-z_][\w.-]{1,60})(?:\[\d+\])?: ")
LEVEL_WITHIN = 80
LEADING = re.compile(r"^[\s\[\]():|<>-]+")


class PlainForms:
    """Reads lines by the form that the last one had first, since logs seldom change it."""

    def __init__(self, year: int) -> None:
        self._year = year
        self.without_zone = False
        self._forms: list[Callable[[str], Found | None]] = [
            *(self._iso, self._syslog, _access, _epoch)
        ]

    def read(self, line: str) -> Found:
        """Form, seconds, level's word, source, message."""
        for number, form in enumerate(self._forms):
            if (found := form(line)) is not None:
                if number:
                    self._forms.insert(0, self._forms.pop(number))
                return found
        word, source, message = _parted(line)
        return "text", None, word, source, message

    def _iso(self, line: str) -> Found | None:
        match = ISO.match(line)
        if match is None:
            return None
        found = iso_seconds(match[1])
        if found is None:
            return None
        self.without_zone |= found[1]
        return "iso", found[0], *_parted(line[match.end() :])

    def _syslog(self, line: str) -> Found | None:
        match = SYSLOG.match(line)
        if match is None or match[1] not in MONTHS:
            return None
        month, (day, hour, minute, second) = MONTHS[match[1]], map(int, match.group(2, 3, 4, 5))
        try:
            seconds = datetime(self._year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
        except ValueError:
            return None
        self.without_zone = True
        message = line[match.end() :]
        return "syslog", seconds, _word(message), match[7], message


def _access(line: str) -> Found | None:
    """A web server's line; its status tells the level."""
    match = ACCESS.match(line)
    if match is None or match[3] not in MONTHS:
        return None
    hours, minutes = int(match[8][:3]), int(match[8][0] + match[8][3:])
    day, hour, minute, second = map(int, match.group(2, 5, 6, 7))
    try:
        zone = timezone(timedelta(hours=hours, minutes=minutes))
        at = datetime(int(match[4]), MONTHS[match[3]], day, hour, minute, second, tzinfo=zone)
        seconds = sane(at.timestamp())
    except ValueError:
        return None
    status = match[10]
    word = {"5": "error", "4": "warning"}.get(status[0], "info")
    return "access", seconds, word, match[1], f"{match[9]} {status} {match[11]}"


def _epoch(line: str) -> Found | None:
    match = EPOCH.match(line)
    seconds = seconds_of(match[1]) if match else None
    if match is None or seconds is None:
        return None
    return "epoch", seconds, *_parted(line[match.end() :])


def _parted(text: str) -> tuple[str, str, str]:
    """Level's word, source and message of what stands behind the time."""
    rest = text
    if rest.startswith("[") and (process := PROCESS.match(rest)):
        rest = rest[process.end() :]
    found = WORD.search(rest, 0, LEVEL_WITHIN)
    if found is None or not _is_label(rest, found):
        source = SOURCE.match(rest)
        return "", source[1] if source else "", rest
    head, message = rest[: found.start()], LEADING.sub("", rest[found.end() :])
    source = SOURCE.match(message)
    name = source[1] if source else head.strip(" []():|<>-")[:60]
    return found[0].lower(), name, message[source.end() :] if source else message


def _is_label(text: str, found: re.Match[str]) -> bool:
    """Whether the word is the line's level: in capitals, marked off, or the first one."""
    after = text[found.end() : found.end() + 1]
    before = text[: found.start()].strip()
    return found[0].isupper() or (after in ("]", ":", "|", ")") and len(before) < 40) or not before


def _word(message: str) -> str:
    found = WORD.search(message, 0, LEVEL_WITHIN)
    return found[0].lower() if found and _is_label(message, found) else ""
