"""Watching: numbers over all projects, and what workers count."""

from importlib.resources import files

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Functions that count, and the tables by which workers tell what they count."""
    script = files("ai_stack.database.migrations") / "sql" / "0011_watching.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
