"""A log's records: when, how bad, from where, what; each line by the form that it has."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from .lines import Lines
from .plain import PlainForms
from .times import seconds_of

Level: TypeAlias = Literal["trace", "debug", "info", "notice", "warning", "error", "critical"]
LEVELS: tuple[Level, ...] = ("trace", "debug", "info", "notice", "warning", "error", "critical")
WORDS: Mapping[str, Level] = {
    **{level: level for level in LEVELS},
    "verbose": "trace",
    "log": "info",
    "information": "info",
    "informational": "info",
    "warn": "warning",
    "err": "error",
    "severe": "error",
    "failure": "error",
    "crit": "critical",
    "fatal": "critical",
    "panic": "critical",
    "alert": "critical",
    "emerg": "critical",
    "emergency": "critical",
}
PRIORITIES: tuple[Level, ...] = (
    *("critical", "critical", "critical", "error", "warning", "notice", "info", "debug"),
)
JOURNAL = "__REALTIME_TIMESTAMP"
TIMES = ("time", "ts", "timestamp", "@timestamp", "datetime", "date", "asctime", "t")
LEVEL_KEYS = ("level", "severity", "lvl", "levelname", "log.level", "loglevel")
MESSAGES = ("message", "msg", "event", "text", "log", "body")
SOURCES = ("logger", "service", "source", "name", "component", "module", "unit")
MAX_MESSAGE = 8_000
MAX_JSON = 64 << 10


@dataclass(slots=True)
class Record:
    """`time` in seconds since 1970, None where the line has none; `level` empty where none."""

    line: int
    time: float | None
    level: str
    source: str
    message: str

    @property
    def rank(self) -> int:
        return rank(self.level)

    def shown(self) -> dict[str, str | int | None]:
        return {
            "line": self.line,
            "time": None if self.time is None else moment(self.time),
            "level": self.level or None,
            "source": self.source or None,
            "message": self.message,
        }


@dataclass(slots=True)
class Records:
    """Reads lines as records and counts which form they had."""

    lines: Lines
    year: int
    forms: dict[str, int] = field(default_factory=dict)
    continuations: int = 0
    without_zone: bool = False

    def __iter__(self) -> Iterator[Record]:
        plain = PlainForms(self.year)
        for number, line in self.lines:
            if not line or line.isspace():
                continue
            if line[0] in " \t" and self.forms:
                self.continuations += 1
                continue
            yield self._record(plain, number, line)
        self.without_zone = plain.without_zone

    def _record(self, plain: PlainForms, number: int, line: str) -> Record:
        if line[0] == "{" and (found := _object(line)) is not None:
            form = "journald" if JOURNAL in found else "json"
            self._count(form)
            make = _of_journal if form == "journald" else _of_object
            return make(number, found)
        form, time, word, source, message = plain.read(line)
        self._count(form)
        return Record(number, time, WORDS.get(word, ""), source, message[:MAX_MESSAGE])

    def _count(self, form: str) -> None:
        self.forms[form] = self.forms.get(form, 0) + 1


def rank(level: str) -> int:
    """How bad a level is, -1 for none."""
    return LEVELS.index(level) if level in LEVELS else -1


def moment(seconds: float) -> str:
    """A time in ISO 8601, UTC."""
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds")


def _object(line: str) -> dict[str, object] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _of_journal(number: int, entry: Mapping[str, object]) -> Record:
    priority = str(entry.get("PRIORITY", ""))
    level = PRIORITIES[int(priority)] if priority in set("01234567") else ""
    source = entry.get("SYSLOG_IDENTIFIER") or entry.get("_SYSTEMD_UNIT") or entry.get("_COMM")
    message = _text(entry.get("MESSAGE"))
    time = seconds_of(entry.get(JOURNAL))
    return Record(number, time, level, _text(source)[:200], message[:MAX_MESSAGE])


def _of_object(number: int, entry: Mapping[str, object]) -> Record:
    level = str(_first(entry, LEVEL_KEYS)).lower()
    message = _text(_first(entry, MESSAGES)) or json.dumps(entry, ensure_ascii=False)
    return Record(
        number,
        seconds_of(_first(entry, TIMES)),
        WORDS.get(level, "") or _numbered(level),
        _text(_first(entry, SOURCES))[:200],
        message[:MAX_MESSAGE],
    )


def _numbered(level: str) -> str:
    """Numbers as Python's logging and pino have them: 10 to 60, 50 and more being critical."""
    if not level.isdigit():
        return ""
    return LEVELS[{0: 0, 1: 1, 2: 2, 3: 4, 4: 5}.get(int(level[:4]) // 10, 6)]


def _first(entry: Mapping[str, object], names: tuple[str, ...]) -> object:
    return next((entry[name] for name in names if name in entry), "")


def _text(value: object) -> str:
    """A text; journald gives what is not UTF-8 as a list of bytes."""
    if isinstance(value, list) and all(isinstance(b, int) and 0 <= b < 256 for b in value):
        return bytes(value).decode("utf-8", "replace")
    return "" if value is None else str(value)
