"""`usage`: what models were used for, by hour, day or model."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from ai_stack.cli.client import Answer, connect, given
from ai_stack.cli.options import AsJson, print_json, printable

AGO = re.compile(r"(\d{1,5})([mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
PAGE = 1000
WIDEST = 1000  # no line is folded, however narrow the terminal is

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Group(StrEnum):
    """What one line sums up."""

    hour = "hour"
    day = "day"
    model = "model"


LENGTHS = {Group.hour: len("2026-03-01T00:00"), Group.day: len("2026-03-01"), Group.model: 0}


@app.command()
def usage(
    since: Annotated[
        str, typer.Option(help="As 90m, 24h, 7d or 4w before now, or a date and time.")
    ] = "7d",
    until: Annotated[str | None, typer.Option(help="The same; by default now.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only this model.")] = None,
    group: Annotated[Group, typer.Option("--group", "-g", help="What a line sums up.")] = Group.day,
    as_json: AsJson = False,
) -> None:
    """Show requests, tokens, times and cost of inference."""
    asked = given(since=read_time(since), until=read_time(until), model=model, group=group.value)
    found: Answer = {"next_cursor": None}
    with connect() as gateway:
        items: list[Answer] = []
        while not items or found["next_cursor"] is not None:
            page = given(**asked, limit=PAGE, cursor=found["next_cursor"])
            found = gateway.ask("GET", "/inference/usage", params=page)
            items += found["items"]
            if not found["items"]:
                break
    if as_json:
        print_json({**found, "items": items})
    else:
        _show(items, found["totals"], LENGTHS[group])


def read_time(text: str | None, now: datetime | None = None) -> str | None:
    """A time as the gateway takes it, from `7d` before now or from ISO 8601 in local time."""
    if text is None:
        return None
    ago = AGO.fullmatch(text)
    if ago is not None:
        found = (now or datetime.now(UTC)) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        return found.isoformat()
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError as error:
        said = f"{text!r} is neither a time such as 2026-03-01 nor as long ago as 7d."
        raise typer.BadParameter(said) from error


def _show(items: list[Answer], totals: Answer, length: int) -> None:
    """A line for each item; `length` characters tell where it begins."""
    from rich.console import Console  # noqa: PLC0415 (JSON goes without it)
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("from", "model"):
        table.add_column(name)
    for name in ("requests", "cached", "prompt", "answer", "mean ms", "max ms", "cost", "repaired"):
        table.add_column(name, justify="right")
    for item in items:
        start = item.get("start", "")[:length].replace("T", " ")
        table.add_row(start, printable(item["model"]), *numbers(item), str(item["repaired_calls"]))
    table.add_row("", "all", *numbers(totals), str(totals["repaired_calls"]), style="bold")
    Console(soft_wrap=True, width=WIDEST).print(table)


def numbers(item: Answer) -> list[str]:
    """How often, how many tokens, how long and at what cost."""
    counts = ("requests", "cached", "prompt_tokens", "completion_tokens")
    times = [f"{item[name]:.0f}" for name in ("mean_ms", "max_ms")]
    return [
        *(str(item[name]) for name in counts),
        *times,
        f"{item['cost']:.4g}",
    ]
