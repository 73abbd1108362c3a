"""Projects: deleted in batches, with every trace but who did what and when."""

from importlib.resources import files

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """What finds and erases the rows of a project; names of a bounded length."""
    script = files("ai_stack.database.migrations") / "sql" / "0009_projects.sql"
    op.get_bind().connection.cursor().execute(script.read_text())
