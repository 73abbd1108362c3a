"""Options that several data verbs share, and how their values are read and printed."""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option(help="Return when searches find it; at most 30 s.")]
MetadataPairs = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata",
        "-m",
        metavar="KEY=VALUE",
        help="Metadata; a value that reads as JSON is taken as such. May be repeated.",
    ),
]
FilterText = Annotated[
    str | None,
    typer.Option(
        "--filter",
        "-f",
        metavar="FILTER",
        help='Only documents whose metadata match: KEY=VALUE, or JSON as {"year": {"gte": 2020}}.',
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=64, help="Processes of the gateway; by default AI_STACK_WORKERS."),
]
Number = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many to show at most.")]
Everything = Annotated[bool, typer.Option("--all", help="Show all, however many.")]


def read_metadata(pairs: Sequence[str] | None, hint: str = "--metadata") -> dict[str, Any]:
    """`["a=1", "b=x"]` as `{"a": 1, "b": "x"}`; a wrong pair is a wrong call."""
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE.", param_hint=hint)
        found[name] = _value(value)
    return found


def read_filter(text: str | None) -> dict[str, Any] | None:
    """A filter given as KEY=VALUE or as a JSON object."""
    if text is None:
        return None
    if not text.lstrip().startswith("{"):
        return read_metadata([text], "--filter")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}.", param_hint="--filter") from None
    return dict(found)


def limit_of(pair: str) -> tuple[str, int]:
    """A limit given as NAME=NUMBER."""
    name, _, number = pair.partition("=")
    if not (number.isdecimal() and number.isascii()):
        raise typer.BadParameter(f"{pair!r} is not NAME=NUMBER.", param_hint="--limit")
    return name, int(number)


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str = "") -> None:
    """Print for a person."""
    print(printable(text))


def printable(text: str) -> str:
    """Text without what would command a terminal: stored text may come from anywhere."""
    return CONTROLS.sub("\ufffd", text)


def shortened(text: str, width: int) -> str:
    """Text on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
