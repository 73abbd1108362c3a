"""Envelopes at rest: data keys, sealed columns, and words that are written with their passage."""

from importlib.resources import files

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Tables of keys, a column for what is sealed, and views that show it."""
    script = files("ai_stack.database.migrations") / "sql" / "0012_encryption.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
