"""Accounts."""

from importlib.resources import files

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """See the script."""
    script = files("ai_stack.database.migrations") / "sql" / "0008_accounts.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
