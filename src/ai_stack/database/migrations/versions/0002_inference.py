"""Inference: the writer of its log, and stored responses."""

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """One function that writes the log of all projects, one table of responses."""
    script = files("ai_stack.database.migrations") / "sql" / "0002_inference.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
