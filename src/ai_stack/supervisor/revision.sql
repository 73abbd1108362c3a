-- Prints the schema's revision; nothing when there is no schema yet.
SELECT 'SELECT version_num FROM aidb.alembic_version'
 WHERE to_regclass('aidb.alembic_version') IS NOT NULL \gexec
