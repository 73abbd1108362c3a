"""`report`: what is slow in the gateway, and what all projects have used; for operators."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ai_stack.cli.client import Answer, connect, given
from ai_stack.cli.options import AsJson, print_json, printable
from ai_stack.cli.usage import numbers, read_time

if TYPE_CHECKING:
    from rich.table import Table

WORDS = ("kind", "request", "operation", "project", "principal", "model")
WIDEST = 1000  # no line is folded, however narrow the terminal is

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


class Grouping(StrEnum):
    """What one line sums up."""

    project = "project"
    principal = "principal"
    model = "model"


@app.command()
def slow(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the slowest requests and statements since the gateway started, the worst first."""
    with connect() as gateway:
        found = gateway.ask("GET", "/reports/slow", params={"limit": limit})
    if as_json:
        print_json(found)
    elif not found["items"]:
        print(f"Nothing has taken longer than {found['threshold_s']:g} s.")
    else:
        _show_slow(found["items"])


@app.command()
def usage(
    since: Annotated[
        str, typer.Option(help="As 90m, 24h, 7d or 4w before now, or a date and time.")
    ] = "7d",
    until: Annotated[str | None, typer.Option(help="The same; by default now.")] = None,
    group: Annotated[
        Grouping, typer.Option("--group", "-g", help="What a line sums up.")
    ] = Grouping.project,
    as_json: AsJson = False,
) -> None:
    """Show what all projects have used models for, most requests first."""
    asked = given(since=read_time(since), until=read_time(until), group=group.value)
    with connect() as gateway:
        found = gateway.ask("GET", "/reports/usage", params=asked)
    if as_json:
        print_json(found)
    else:
        _show_usage(found, group)


def _show_slow(items: list[Answer]) -> None:
    table = _table(("kind", "count", "mean s", "worst s", "request", "operation"))
    for item in items:
        times = (f"{item[name]:.3f}" for name in ("mean_s", "worst_s"))
        told = (item["request_id"] or "", printable(item["operation"]))
        table.add_row(item["kind"], str(item["count"]), *times, *told)
    _print(table)


def _show_usage(found: Answer, group: Grouping) -> None:
    names = ("project", "principal") if group is Grouping.principal else (group.value,)
    table = _table((*names, "requests", "cached", "prompt", "answer", "mean ms", "max ms", "cost"))
    for item in found["items"]:
        table.add_row(*(printable(str(item.get(name, ""))) for name in names), *numbers(item))
    all_of = ("all", *("" for _ in names[1:]))
    table.add_row(*all_of, *numbers(found["totals"]), style="bold")
    _print(table)


def _table(columns: tuple[str, ...]) -> "Table":
    from rich.table import Table  # noqa: PLC0415 (JSON goes without it)

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="left" if name in WORDS else "right")
    return table


def _print(table: "Table") -> None:
    from rich.console import Console  # noqa: PLC0415

    Console(soft_wrap=True, width=WIDEST).print(table)
