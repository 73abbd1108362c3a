"""Text that is read as it stands: Markdown, reStructuredText, plain text, source code."""

import re

from ai_stack.parsers import Parsed, Source
from ai_stack.parsers.charset import decoded
from ai_stack.parsers.formats import FORMAT_OF, LANGUAGE_OF, extension_of

FIRST_LINES = 8192
CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.MULTILINE)
ATX = re.compile(r"^ {0,3}# +(.+?)[ \t#]*$", re.MULTILINE)
UNDERLINED = re.compile(r"^(?=\w)([^\n]{2,200})\n([=\-*~#^\"])\2{2,}[ \t]*$", re.MULTILINE)
FRONT_TITLE = re.compile(
    r"\A---\r?\n(?:[^\n]*\n){0,30}?title:[ \t]*[\"']?([^\n]+?)[\"']?[ \t\r]*\n"
)


def parse(source: Source) -> Parsed:
    end = extension_of(source.name)
    language = LANGUAGE_OF.get(end) or FORMAT_OF.get(end, "text")
    coding = CODING.search(source.data[:200]) if language == "python" else None
    text, metadata = decoded(source, coding[1].decode() if coding else None)
    return Parsed(text, _title(text[:FIRST_LINES], language) or _name(source), metadata, language)


def _title(text: str, language: str) -> str:
    found = None
    if language == "markdown":
        found = FRONT_TITLE.search(text) or ATX.search(text) or UNDERLINED.search(text)
    elif language in ("rst", "text"):
        found = UNDERLINED.search(text)
    return found[1].strip() if found else ""


def _name(source: Source) -> str:
    """A file of code keeps its extension: `chunking.py` says more than `chunking`."""
    return source.name.replace("\\", "/").rsplit("/", 1)[-1]
