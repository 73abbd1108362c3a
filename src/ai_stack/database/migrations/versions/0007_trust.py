"""Trust: users, members, keys, logins and the audit log, behind a role of their own."""

from importlib.resources import files

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Control tables, what announces their changes, and the rights that a run is done with."""
    script = files("ai_stack.database.migrations") / "sql" / "0007_trust.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
