"""Encryption."""

from importlib.resources import files

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """See the script."""
    script = files("ai_stack.database.migrations") / "sql" / "0012_encryption.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
