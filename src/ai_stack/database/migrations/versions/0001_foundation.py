"""The foundation: documents, chunks, embeddings by model, changes, runs, time series, tenants."""

from importlib.resources import files

from alembic import op
from procrastinate.schema import SchemaManager

revision = "0001"
down_revision = None

GRANT_QUEUE = """
GRANT USAGE ON SCHEMA jobs TO aidb_gateway;
GRANT ALL ON ALL TABLES IN SCHEMA jobs TO aidb_gateway;
GRANT ALL ON ALL SEQUENCES IN SCHEMA jobs TO aidb_gateway;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA jobs TO aidb_gateway;
"""


def upgrade() -> None:
    """Tables in schema aidb, tenant views in schema tenant, the job queue in schema jobs."""
    scripts = files("ai_stack.database.migrations") / "sql"
    for name in ("foundation", "timeseries", "tenants"):
        _run((scripts / f"0001_{name}.sql").read_text())
    _run("CREATE SCHEMA jobs; SET LOCAL search_path = jobs, public")
    _run(SchemaManager.get_schema())
    _run("SET LOCAL search_path = public;" + GRANT_QUEUE)


def _run(script: str) -> None:
    """A script of several statements, without parameters: % means itself."""
    op.get_bind().connection.cursor().execute(script)
