"""Accounts."""

from importlib.resources import files

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """See the scripts."""
    folder = files("ai_stack.database.migrations") / "sql"
    for name in ("0008_accounts", "0008_sign_on"):
        op.get_bind().connection.cursor().execute((folder / f"{name}.sql").read_text())
