"""JSON, lines of JSON, and notebooks."""

import json

from ai_stack.errors import InvalidRequest
from ai_stack.parsers import Parsed, Source, Value
from ai_stack.parsers.charset import decoded
from ai_stack.parsers.formats import FORMAT_OF, extension_of

LINE = 400


def parse(source: Source) -> Parsed:
    text, metadata = decoded(source)
    kind = FORMAT_OF.get(extension_of(source.name), "json")
    try:
        if kind == "jsonl":
            return _lines(text, dict(metadata))
        value = json.loads(text)
    except RecursionError as error:
        raise InvalidRequest("The JSON in this file is nested too deeply.") from error
    except ValueError as error:
        raise InvalidRequest("The JSON in this file is malformed or cut off.") from error
    if kind == "notebook" and isinstance(value, dict):
        return _notebook(value)
    return Parsed(_shown(text, value), _title(value), metadata, "json")


def _shown(text: str, value: object) -> str:
    """As it stands where its lines are short, else indented."""
    if len(text) <= LINE * (1 + text.count("\n")):
        return text
    return json.dumps(value, ensure_ascii=False, indent=1)


def _title(value: object) -> str:
    title = value.get("title") if isinstance(value, dict) else None
    return title if isinstance(title, str) else ""


def _lines(text: str, metadata: dict[str, Value]) -> Parsed:
    lines = [line for line in text.split("\n") if line.strip()]
    shown = [_shown(line, json.loads(line)) for line in lines]
    return Parsed("\n\n".join(shown), "", {**metadata, "rows": len(lines)}, "json")


def _notebook(value: dict[str, object]) -> Parsed:
    cells = value.get("cells")
    blocks = (
        [_cell(cell) for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []
    )
    text = "\n\n".join(filter(None, blocks))
    first = next((line for line in text.split("\n") if line.startswith("# ")), "")
    return Parsed(text, first.lstrip("# "))


def _cell(cell: dict[str, object]) -> str:
    source = cell.get("source", "")
    text = ("".join(map(str, source)) if isinstance(source, list) else str(source)).strip()
    return f"```python\n{text}\n```" if text and cell.get("cell_type") == "code" else text
