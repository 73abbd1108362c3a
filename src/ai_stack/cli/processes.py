"""The stack's own processes, as the supervisor or an operator's tools start them."""

from typing import Annotated

import typer

from ai_stack.cli.options import Workers
from ai_stack.errors import SettingsError
from ai_stack.models.seat import Seat
from ai_stack.settings import Settings, load_settings
from ai_stack.settings.exposure import check_exposure
from ai_stack.telemetry import logs

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Workers = None,
    seat: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the gateway; it starts nothing else and says which URL is missing.

    Of several processes one that ends is started again, and SIGHUP puts new ones in the place of
    all, one after the other, while requests go on.
    """
    settings = load_settings()
    given = {"host": host or settings.host, "port": port or settings.port}
    settings = settings.model_copy(update={**given, "workers": workers or settings.workers})
    logs.begin(settings.log_level, settings.log_format)
    if seat is None and settings.workers > 1:
        raise typer.Exit(_crew(settings))
    from ai_stack import server  # noqa: PLC0415 (the other processes go without it)

    server.serve(settings, None if seat is None else Seat.read(seat))


def _crew(settings: Settings) -> int:
    from ai_stack.supervisor import crew  # noqa: PLC0415 (one process goes without it)

    check_exposure(settings, has_credentials=None)
    return crew.serve(settings)


@app.command()
def worker() -> None:
    """Run the background work: the index, imports, schedules."""
    import uvloop  # noqa: PLC0415 (the other processes load it themselves)

    from ai_stack import worker as process  # noqa: PLC0415

    settings = load_settings()
    logs.begin(settings.log_level, settings.log_format)
    uvloop.run(process.work(settings))


@app.command()
def migrate() -> None:
    """Create or upgrade the tables, with the rights of their owner."""
    from ai_stack.database.migrating import migrate as upgrade  # noqa: PLC0415

    settings = load_settings()
    admin = settings.database_admin_url
    url = admin.get_secret_value() if admin is not None else settings.database
    if url is None:
        raise SettingsError("AI_STACK_DATABASE_ADMIN_URL is not set.")
    print(f"The database is at revision {upgrade(url)}.")
