-- Tables. The gateway's role sees none of them: it works on the views of 0001_tenants.sql.
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA IF NOT EXISTS aidb;
CREATE SCHEMA tenant;

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidb_gateway') THEN
    CREATE ROLE aidb_gateway NOLOGIN;
  END IF;
END $$;

-- UUIDv7 (RFC 9562) is native from PostgreSQL 18 on; the same name serves below it.
DO $$ BEGIN
  IF to_regprocedure('pg_catalog.uuidv7()') IS NULL THEN
    CREATE FUNCTION public.uuidv7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $f$
      SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid $f$;
  END IF;
END $$;

CREATE TABLE aidb.projects (
  id         uuid PRIMARY KEY DEFAULT uuidv7(),
  name       text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO aidb.projects (id, name) VALUES ('00000000-0000-7000-8000-000000000001', 'default');

CREATE SEQUENCE aidb.versions;

CREATE TABLE aidb.documents (
  id         uuid PRIMARY KEY DEFAULT uuidv7(),
  project_id uuid NOT NULL REFERENCES aidb.projects ON DELETE CASCADE,
  content    text NOT NULL,
  metadata   jsonb NOT NULL DEFAULT '{}',
  vector     halfvec,
  content_version bigint NOT NULL DEFAULT nextval('aidb.versions'),
  version    bigint NOT NULL DEFAULT nextval('aidb.versions'),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN aidb.documents.vector IS 'given by the caller; replaces the embedder''s';
COMMENT ON COLUMN aidb.documents.content_version IS 'moves with content and vector; chunks carry that of their cut';
CREATE INDEX documents_project ON aidb.documents (project_id, id);
CREATE INDEX documents_metadata ON aidb.documents USING gin (metadata jsonb_path_ops);

CREATE TABLE aidb.document_keys (
  project_id  uuid NOT NULL,
  key         text NOT NULL COLLATE "C" CHECK (length(key) BETWEEN 1 AND 1024),
  document_id uuid NOT NULL UNIQUE REFERENCES aidb.documents ON DELETE CASCADE,
  source_hash bytea,
  PRIMARY KEY (project_id, key)
);

-- Words joined by punctuation (json.loads, max_wal_size) are found by each of their parts.
-- Seven replace() take a tenth of the time of one translate(), which looks at each character.
CREATE FUNCTION public.search_words(words text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT to_tsvector('pg_catalog.english'::regconfig,
    replace(replace(replace(replace(replace(replace(replace(words, '.', ' '), '/', ' '), '_', ' '), '-', ' '), ':', ' '), '\', ' '), '@', ' ')) $$;

CREATE TABLE aidb.chunks (
  id          uuid PRIMARY KEY DEFAULT uuidv7(),
  project_id  uuid NOT NULL,
  document_id uuid NOT NULL REFERENCES aidb.documents ON DELETE CASCADE,
  content_version bigint NOT NULL,
  ordinal     int NOT NULL,
  start_at    int NOT NULL,
  end_at      int NOT NULL CHECK (end_at >= start_at),
  heading     text NOT NULL DEFAULT '',
  text        text NOT NULL,
  words       tsvector NOT NULL GENERATED ALWAYS AS
              (setweight(public.search_words(heading), 'A') || public.search_words(text)) STORED
);
CREATE INDEX chunks_document ON aidb.chunks (document_id);
CREATE INDEX chunks_words ON aidb.chunks USING gin (words);

CREATE TABLE aidb.models (
  id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key         text NOT NULL UNIQUE,
  name        text NOT NULL,
  weights     text NOT NULL,
  dimensions  int NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
  description jsonb NOT NULL,
  state       text NOT NULL CHECK (state IN ('building', 'active', 'previous', 'retired')),
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX models_active ON aidb.models (state) WHERE state IN ('active', 'building', 'previous');

CREATE TABLE aidb.embeddings (
  model_id    int NOT NULL,
  chunk_id    uuid NOT NULL REFERENCES aidb.chunks ON DELETE CASCADE,
  project_id  uuid NOT NULL,
  document_id uuid NOT NULL,
  vector      halfvec NOT NULL,
  PRIMARY KEY (chunk_id, model_id)
) PARTITION BY LIST (model_id);

-- A change that the index has not followed yet. No foreign key: a deletion outlives its document.
CREATE TABLE aidb.dirty (
  document_id uuid PRIMARY KEY,
  project_id  uuid NOT NULL,
  version     bigint NOT NULL DEFAULT nextval('aidb.versions'),
  due         timestamptz NOT NULL DEFAULT now(),
  tries       int NOT NULL DEFAULT 0,
  failed      boolean NOT NULL DEFAULT false,
  error       text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX dirty_due ON aidb.dirty (due) WHERE NOT failed;
CREATE INDEX dirty_project ON aidb.dirty (project_id);

CREATE TABLE aidb.idempotency (
  project_id   uuid NOT NULL,
  key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request_hash bytea NOT NULL,
  status       int,
  response     bytea,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (project_id, key)
);
CREATE INDEX idempotency_created ON aidb.idempotency (created_at);

CREATE TABLE aidb.runs (
  id          uuid PRIMARY KEY DEFAULT uuidv7(),
  project_id  uuid NOT NULL REFERENCES aidb.projects ON DELETE CASCADE,
  kind        text NOT NULL,
  status      text NOT NULL DEFAULT 'queued'
              CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  input       jsonb NOT NULL DEFAULT '{}',
  output      jsonb,
  error       text,
  cancelling  boolean NOT NULL DEFAULT false,
  created_at  timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);
CREATE INDEX runs_project ON aidb.runs (project_id, id);

CREATE TABLE aidb.run_events (
  run_id     uuid NOT NULL REFERENCES aidb.runs ON DELETE CASCADE,
  number     int NOT NULL,
  project_id uuid NOT NULL,
  kind       text NOT NULL,
  data       jsonb NOT NULL DEFAULT '{}',
  at         timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, number)
);

-- The files of an import: what came, and what became of each.
CREATE TABLE aidb.run_files (
  run_id      uuid NOT NULL REFERENCES aidb.runs ON DELETE CASCADE,
  number      int NOT NULL,
  project_id  uuid NOT NULL,
  path        text NOT NULL,
  media_type  text,
  size_bytes  bigint NOT NULL DEFAULT 0,
  source_hash bytea,
  state       text NOT NULL DEFAULT 'waiting'
              CHECK (state IN ('waiting', 'added', 'updated', 'unchanged', 'deleted', 'failed')),
  error       text,
  document_id uuid,
  PRIMARY KEY (run_id, number)
);
CREATE TABLE aidb.run_blobs (
  run_id     uuid NOT NULL,
  number     int NOT NULL,
  part       int NOT NULL,
  project_id uuid NOT NULL,
  data       bytea NOT NULL,
  PRIMARY KEY (run_id, number, part),
  FOREIGN KEY (run_id, number) REFERENCES aidb.run_files ON DELETE CASCADE
);
ALTER TABLE aidb.run_blobs ALTER COLUMN data SET STORAGE EXTERNAL;
