"""The log of a process: lines of text for people or of JSON for machines, without secrets."""

import logging
import sys
from datetime import datetime
from typing import Literal, TextIO

import orjson

from ai_stack.telemetry.masking import masked
from ai_stack.telemetry.requests import request_id

Form = Literal["text", "json"]

# What these say of every request, the stack says itself or does not want to.
QUIET = ("httpx", "httpcore", "opentelemetry", "urllib3")
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id"}


class TextForm(logging.Formatter):
    """`time LEVEL name: message`, with the request's id before the message where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        known = _request_of(record)
        if known is not None and known not in record.message:
            record.message = f"[{known}] {record.message}"
        return super().formatMessage(record)


class JsonForm(logging.Formatter):
    """One object a line: time, level, logger, message, and what else the record brings."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (known := _request_of(record)) is not None:
            shown["request_id"] = known
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        taken = STANDARD | shown.keys()
        more = {name: value for name, value in vars(record).items() if name not in taken}
        return orjson.dumps(_safe({**shown, **more}), default=str).decode()


def _request_of(record: logging.LogRecord) -> str | None:
    """The id of the request that the record was made in, or that it names itself."""
    return getattr(record, "request_id", None) or request_id()


def _safe(value: object) -> object:
    """The value with all texts in it masked, and fit for JSON."""
    if isinstance(value, str):
        return masked(value.encode("utf-8", "replace").decode())
    if isinstance(value, dict):
        return {str(name): _safe(below) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(below) for below in value]
    plain = value is None or isinstance(value, bool | float)
    small = isinstance(value, int) and abs(value) < 2**63
    return value if plain or small else masked(str(value))


def begin(level: str, form: Form, stream: TextIO | None = None) -> None:
    """Log to a stream, by default standard error, in place of what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonForm() if form == "json" else TextForm())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
