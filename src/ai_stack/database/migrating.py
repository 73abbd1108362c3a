"""Brings the schema to this version, once, however many processes start together."""

from functools import partial
from importlib.resources import as_file, files

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine

from ai_stack.database import DIALECT, translated
from ai_stack.errors import StackError

LOCK = 0x41494442  # "AIDB"


def migrate(url: str) -> str:
    """Run the missing migrations with the rights of the schema's owner; the revision reached.

    Raises StackError when the database was made by a newer version, DatabaseUnavailable when
    it does not answer.
    """
    engine = create_engine(DIALECT, creator=partial(psycopg.connect, url))
    try:
        with translated(), engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '60s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS aidb")
            return _upgrade(connection)
    finally:
        engine.dispose()


def revisions() -> list[str]:
    """The revisions that this version knows, from the oldest to the newest."""
    folder = files("ai_stack.database") / "migrations" / "versions"
    return sorted(file.name[:4] for file in folder.iterdir() if file.name[:4].isdigit())


def _upgrade(connection: Connection) -> str:
    with as_file(files("ai_stack.database") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        _refuse_newer(connection, {p.stem[:4] for p in (folder / "versions").glob("[0-9]*.py")})
        command.upgrade(config, "head")
    return str(connection.exec_driver_sql("SELECT version_num FROM aidb.alembic_version").scalar())


def _refuse_newer(connection: Connection, known: set[str]) -> None:
    table = connection.exec_driver_sql("SELECT to_regclass('aidb.alembic_version')").scalar()
    if table is None:
        return
    revision = connection.exec_driver_sql("SELECT version_num FROM aidb.alembic_version").scalar()
    if revision is not None and revision not in known:
        raise StackError(
            f"The database is at revision {revision}, which is newer than this version of the"
            " stack. Install the version that made it; nothing was changed."
        )
