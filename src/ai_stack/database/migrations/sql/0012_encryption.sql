-- Envelopes at rest. A data key for each project that wants its bodies sealed, and one for the
-- stack's own secrets, each wrapped by a master key that is not in the database.
CREATE TABLE control.masters (
  id          text PRIMARY KEY COLLATE "C",
  check_value bytea NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN control.masters.check_value IS 'opens with the master key of this id alone';

CREATE TABLE control.data_keys (
  id         int PRIMARY KEY,
  project_id uuid REFERENCES aidb.projects ON DELETE CASCADE,
  master     text NOT NULL REFERENCES control.masters,
  wrapped    bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX data_keys_project ON control.data_keys (project_id);
CREATE UNIQUE INDEX data_keys_own ON control.data_keys ((project_id IS NULL)) WHERE project_id IS NULL;
COMMENT ON COLUMN control.data_keys.project_id IS 'NULL for that of the stack''s own secrets';

-- The projects whose bodies are sealed, and the key for what is written now.
CREATE TABLE aidb.sealing (
  project_id uuid PRIMARY KEY REFERENCES aidb.projects ON DELETE CASCADE,
  key_id     int NOT NULL REFERENCES control.data_keys ON DELETE CASCADE
);
GRANT SELECT, INSERT, UPDATE, DELETE ON aidb.sealing TO aidb_control;

-- Every unit of work asks in its first statement whether its project is sealed, and with which
-- key: no process can go by what it knew before. A wrapped key is of no use without its master.
CREATE VIEW tenant.sealing AS SELECT project_id, key_id FROM aidb.sealing;
CREATE VIEW tenant.data_keys AS SELECT id, master, wrapped FROM control.data_keys
  WHERE project_id = nullif(current_setting('app.project', true), '')::uuid;
GRANT SELECT ON tenant.sealing, tenant.data_keys TO aidb_gateway;

-- What is sealed lies beside where it would be in the clear, which is then empty.
ALTER TABLE aidb.documents ADD COLUMN sealed bytea,
  ADD CONSTRAINT documents_sealed CHECK (sealed IS NULL OR content = '') NOT VALID;
ALTER TABLE aidb.chunks ADD COLUMN sealed bytea,
  ADD CONSTRAINT chunks_sealed CHECK (sealed IS NULL OR (text = '' AND heading = '')) NOT VALID;
ALTER TABLE aidb.run_blobs ADD COLUMN sealed bytea,
  ADD CONSTRAINT run_blobs_sealed CHECK (sealed IS NULL OR data = '') NOT VALID;
ALTER TABLE aidb.responses ADD COLUMN sealed bytea,
  ADD CONSTRAINT responses_sealed CHECK (sealed IS NULL OR (input = '[]' AND response = '{}')) NOT VALID;
ALTER TABLE aidb.documents ALTER COLUMN sealed SET STORAGE EXTERNAL;
ALTER TABLE aidb.chunks ALTER COLUMN sealed SET STORAGE EXTERNAL;
ALTER TABLE aidb.run_blobs ALTER COLUMN sealed SET STORAGE EXTERNAL;
ALTER TABLE aidb.responses ALTER COLUMN sealed SET STORAGE EXTERNAL;

-- The words of a sealed passage are kept without their places, so that no text can be put together
-- from them; they cannot be worked out of an envelope, so whoever writes a passage writes them too.
ALTER TABLE aidb.chunks ALTER COLUMN words DROP EXPRESSION;
CREATE FUNCTION public.passage_words(heading text, passage text, sealed boolean) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN sealed THEN strip(setweight(public.search_words(heading), 'A') || public.search_words(passage))
    ELSE setweight(public.search_words(heading), 'A') || public.search_words(passage) END $$;

-- All else is as before: each view shows the new column too.
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['documents', 'run_blobs', 'responses'] LOOP
    EXECUTE format('CREATE OR REPLACE VIEW tenant.%1$I AS SELECT * FROM aidb.%1$I
      WHERE project_id = nullif(current_setting(''app.project'', true), '''')::uuid
      WITH CASCADED CHECK OPTION', name);
  END LOOP;
END $$;
CREATE OR REPLACE VIEW tenant.chunks AS SELECT * FROM aidb.chunks
  WHERE project_id = (SELECT nullif(current_setting('app.project', true), '')::uuid)
  WITH CASCADED CHECK OPTION;
CREATE OR REPLACE FUNCTION tenant.lease_dirty(batch int, seconds double precision, longest int)
RETURNS TABLE (document_id uuid, project_id uuid, version bigint, tries int)
LANGUAGE sql SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  UPDATE dirty d SET due = now() + make_interval(secs => seconds), tries = d.tries + 1
  FROM (SELECT q.document_id FROM dirty q WHERE q.due <= now() AND NOT q.failed
        AND (longest IS NULL OR NOT EXISTS (SELECT FROM documents o WHERE o.id = q.document_id
             AND coalesce(octet_length(o.sealed), octet_length(o.content)) > longest))
        ORDER BY q.due LIMIT batch FOR UPDATE SKIP LOCKED) due
  WHERE d.document_id = due.document_id
  RETURNING d.document_id, d.project_id, d.version, d.tries $$;
