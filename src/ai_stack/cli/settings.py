"""`settings`: every value, its variable and where it came from, with secrets masked."""

import json
from typing import Annotated

import typer

from ai_stack.cli.masking import masked
from ai_stack.settings import Origin, Settings, read_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show each setting's value, variable and origin."""
    found, origins = read_settings()
    rows = [_row(found, origin) for origin in origins]
    print(json.dumps(rows, indent=2) if as_json else _table(rows))


def _row(found: Settings, origin: Origin) -> dict[str, str | None]:
    return {
        "setting": origin.field,
        "variable": origin.variable,
        "value": masked(origin.field, getattr(found, origin.field)),
        "origin": origin.source,
        "help": Settings.model_fields[origin.field].description,
    }


def _table(rows: list[dict[str, str | None]]) -> str:
    width = max(len(row["variable"] or "") for row in rows)
    return "\n".join(
        f"{row['variable']:{width}} = {row['value'] or '':40} {_origin(row)}".rstrip()
        for row in rows
    )


def _origin(row: dict[str, str | None]) -> str:
    return "" if row["origin"] == "default" else f"({row['origin']})"
