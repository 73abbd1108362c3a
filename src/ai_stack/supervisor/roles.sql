-- Roles, database and extension of a supervised PostgreSQL; may run any number of times.
SET client_min_messages = warning;
SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY['aidb_owner', 'aidb_gateway']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
SELECT 'CREATE ROLE aidb_control NOLOGIN'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidb_control') \gexec
GRANT aidb_control TO aidb_gateway WITH INHERIT FALSE, SET TRUE;
SELECT 'CREATE DATABASE aidb OWNER aidb_owner'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'aidb') \gexec
\connect aidb
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
ALTER EXTENSION vector UPDATE;
