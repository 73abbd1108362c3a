"""Due: whether any change waits to be followed."""

from importlib.resources import files

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """One function more."""
    script = files("ai_stack.database.migrations") / "sql" / "0006_due.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
