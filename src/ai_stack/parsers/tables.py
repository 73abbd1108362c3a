"""Comma- and tab-separated values as one Markdown table."""

import csv
import sys

from ai_stack.errors import InvalidRequest
from ai_stack.parsers import Parsed, Source
from ai_stack.parsers.charset import decoded
from ai_stack.parsers.html import markdown_table

DELIMITERS = ",;\t|"
HEAD = 1 << 14


def parse(source: Source) -> Parsed:
    text, metadata = decoded(source)
    csv.field_size_limit(sys.maxsize)
    try:
        rows = list(csv.reader(text.splitlines(keepends=True), delimiter=_delimiter(text[:HEAD])))
    except csv.Error as error:
        raise InvalidRequest("This table does not read: a line is malformed.") from error
    width = max(map(len, rows), default=0)
    if width * len(rows) > 4 * sum(map(len, rows)) + 1000:
        return Parsed(text, "", metadata, "text")
    return Parsed(markdown_table(rows), "", {**metadata, "rows": max(0, len(rows) - 1)})


def _delimiter(head: str) -> str:
    """The one that splits the first lines most often and evenly."""
    lines = head.splitlines()[:20]
    return max(
        DELIMITERS,
        key=lambda mark: (
            min((line.count(mark) for line in lines), default=0),
            sum(line.count(mark) for line in lines),
        ),
    )
