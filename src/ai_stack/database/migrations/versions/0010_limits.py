"""Limits."""

from importlib.resources import files

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """See the script."""
    script = files("ai_stack.database.migrations") / "sql" / "0010_limits.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
