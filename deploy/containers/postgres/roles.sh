#!/bin/sh
# Roles, owner and extensions, once, by the superuser of a new database. The gateway's role sees
# views only; another owns the tables. The image's entrypoint runs this.
set -eu
psql -v ON_ERROR_STOP=1 -qX --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set owner `cat /run/secrets/owner_password`
\set gateway `cat /run/secrets/gateway_password`
CREATE ROLE aidb_owner LOGIN CREATEDB PASSWORD :'owner';
CREATE ROLE aidb_gateway LOGIN PASSWORD :'gateway';
CREATE ROLE aidb_control NOLOGIN;
GRANT aidb_control TO aidb_gateway WITH INHERIT FALSE, SET TRUE;
SELECT format('ALTER DATABASE %I OWNER TO aidb_owner', current_database()) \gexec
CREATE EXTENSION IF NOT EXISTS vector;
SELECT 'CREATE EXTENSION IF NOT EXISTS timescaledb'
 WHERE EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') \gexec
SQL
