"""Waiting: a run that has asked a person something."""

from importlib.resources import files

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """One state more."""
    script = files("ai_stack.database.migrations") / "sql" / "0004_waiting.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
