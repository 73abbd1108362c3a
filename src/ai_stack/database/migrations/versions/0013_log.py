"""Log: rows of the log of inferences come by COPY."""

from importlib.resources import files

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """One right more."""
    script = files("ai_stack.database.migrations") / "sql" / "0013_log.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
