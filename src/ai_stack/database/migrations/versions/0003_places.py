"""Places: where the watched folder's files were, so that an absent disk is told from deletions."""

from importlib.resources import files

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """One table."""
    script = files("ai_stack.database.migrations") / "sql" / "0003_places.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
