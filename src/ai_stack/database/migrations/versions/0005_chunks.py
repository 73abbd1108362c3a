"""Chunks: their view asks for the project once a statement."""

from importlib.resources import files

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """The view anew."""
    script = files("ai_stack.database.migrations") / "sql" / "0005_chunks.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
