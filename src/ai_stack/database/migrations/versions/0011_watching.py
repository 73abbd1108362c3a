"""Watching."""

from importlib.resources import files

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """See the script."""
    script = files("ai_stack.database.migrations") / "sql" / "0011_watching.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
