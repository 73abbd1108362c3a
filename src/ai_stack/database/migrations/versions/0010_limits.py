"""Limits: what is spent of budgets, and the leases on them."""

from importlib.resources import files

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """A table of what is spent, and the function that leases slices of it."""
    script = files("ai_stack.database.migrations") / "sql" / "0010_limits.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
