"""The stack's own processes, as the supervisor or an operator's tools start them."""

from typing import Annotated

import typer

from ai_stack.errors import SettingsError
from ai_stack.settings import load_settings
from ai_stack.telemetry import logs

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Run the gateway; it starts nothing else and says which URL is missing."""
    from ai_stack import server  # noqa: PLC0415 (the other processes go without it)

    settings = load_settings()
    given = {"host": host or settings.host, "port": port or settings.port}
    logs.begin(settings.log_level, settings.log_format)
    server.serve(settings.model_copy(update=given))


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
