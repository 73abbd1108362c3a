-- Tenants by views: each shows one project's rows, the one of the transaction's app.project.
-- An unset project sees nothing, a foreign write fails the check option. Never security_barrier:
-- that would keep @@ and @> from the indexes.
CREATE FUNCTION tenant.project() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT nullif(current_setting('app.project', true), '')::uuid $$;

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['documents', 'document_keys', 'chunks', 'embeddings', 'dirty',
                              'idempotency', 'runs', 'run_events', 'run_files', 'run_blobs',
                              'inference_log', 'events', 'skill_runs'] LOOP
    EXECUTE format('CREATE VIEW tenant.%1$I AS SELECT * FROM aidb.%1$I
      WHERE project_id = nullif(current_setting(''app.project'', true), '''')::uuid
      WITH CASCADED CHECK OPTION', name);
    EXECUTE format('ALTER VIEW tenant.%I ALTER COLUMN project_id SET DEFAULT tenant.project()', name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.%I TO aidb_gateway', name);
  END LOOP;
END $$;
CREATE VIEW tenant.inference_hourly AS SELECT * FROM aidb.inference_hourly
  WHERE project_id = nullif(current_setting('app.project', true), '')::uuid;
CREATE VIEW tenant.models AS SELECT * FROM aidb.models;
GRANT SELECT ON tenant.inference_hourly, tenant.models TO aidb_gateway;
GRANT USAGE ON SCHEMA tenant TO aidb_gateway;
GRANT USAGE ON SEQUENCE aidb.versions TO aidb_gateway;
REVOKE ALL ON SCHEMA aidb FROM PUBLIC;
GRANT USAGE ON SCHEMA aidb TO aidb_gateway;

-- What has to look across projects, and no more than that, runs with the owner's rights.

-- Take up to `batch` due changes for `seconds`: nobody else gets them meanwhile. With `longest`
-- only those of documents of at most so many bytes.
CREATE FUNCTION tenant.lease_dirty(batch int, seconds double precision, longest int)
RETURNS TABLE (document_id uuid, project_id uuid, version bigint, tries int)
LANGUAGE sql SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  UPDATE dirty d SET due = now() + make_interval(secs => seconds), tries = d.tries + 1
  FROM (SELECT q.document_id FROM dirty q WHERE q.due <= now() AND NOT q.failed
        AND (longest IS NULL OR NOT EXISTS (SELECT FROM documents o
             WHERE o.id = q.document_id AND octet_length(o.content) > longest))
        ORDER BY q.due LIMIT batch FOR UPDATE SKIP LOCKED) due
  WHERE d.document_id = due.document_id
  RETURNING d.document_id, d.project_id, d.version, d.tries $$;

CREATE FUNCTION tenant.count_dirty(OUT waiting bigint, OUT failed bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT count(*) FILTER (WHERE NOT failed), count(*) FILTER (WHERE failed) FROM dirty $$;

CREATE FUNCTION tenant.list_projects() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT id FROM projects ORDER BY id $$;

CREATE FUNCTION tenant.project_of_run(run uuid) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT project_id FROM runs WHERE id = run $$;

-- How common words are, by the statistics that ANALYZE gathers: word -> share of all chunks.
CREATE FUNCTION tenant.common_words(wanted text[]) RETURNS TABLE (word text, share real)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT e.word, e.share
  FROM pg_stats s, unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs) AS e(word, share)
  WHERE s.schemaname = 'aidb' AND s.tablename = 'chunks' AND s.attname = 'words' AND e.word = ANY (wanted) $$;

CREATE FUNCTION tenant.count_chunks() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'aidb.chunks'::regclass $$;

-- A new embedding model gets a partition of its own, made apart and then attached, since
-- CREATE TABLE ... PARTITION OF would lock out every search while it waits.
CREATE FUNCTION tenant.add_model(model_key text, model_name text, model_weights text,
                                 model_dimensions int, model_description jsonb, model_state text)
RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = aidb, public, pg_temp AS $$
DECLARE
  number int;
  part text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('aidb.models'));
  SELECT id INTO number FROM models WHERE key = model_key;
  IF number IS NOT NULL THEN RETURN number; END IF;
  INSERT INTO models (key, name, weights, dimensions, description, state)
    VALUES (model_key, model_name, model_weights, model_dimensions, model_description, model_state)
    RETURNING id INTO number;
  part := 'embeddings_' || number;
  EXECUTE format('CREATE TABLE %I (LIKE embeddings INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    CHECK (model_id = %s), CHECK (vector_dims(vector) = %s))', part, number, model_dimensions);
  EXECUTE format('ALTER TABLE embeddings ATTACH PARTITION %I FOR VALUES IN (%s)', part, number);
  RETURN number;
END $$;

-- Give a model a state. The model that becomes active makes the one before it `previous`,
-- which is the way back, and retires the one before that.
CREATE FUNCTION tenant.set_model_state(model int, new_state text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = aidb, public, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('aidb.models'));
  IF new_state = 'active' AND NOT EXISTS (SELECT FROM models WHERE id = model AND state = 'active') THEN
    UPDATE models SET state = 'retired' WHERE state = 'previous' OR id = model;
    UPDATE models SET state = 'previous' WHERE state = 'active';
  END IF;
  UPDATE models SET state = new_state WHERE id = model;
END $$;

CREATE FUNCTION tenant.drop_model(model int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = aidb, public, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('aidb.models'));
  IF EXISTS (SELECT FROM models WHERE id = model AND state = 'active') THEN
    RAISE EXCEPTION 'the active model cannot be dropped';
  END IF;
  EXECUTE format('ALTER TABLE embeddings DETACH PARTITION %I', 'embeddings_' || model);
  EXECUTE format('DROP TABLE %I', 'embeddings_' || model);
  DELETE FROM models WHERE id = model;
END $$;

-- The graph of one model, and the way to a small project's vectors, which are scanned: wanted
-- only where pgvector answers the searches.
CREATE FUNCTION tenant.index_model(model int, wanted boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = aidb, public, pg_temp AS $$
DECLARE
  width int := (SELECT dimensions FROM models WHERE id = model);
  name text := format('embeddings_%s_graph', model);
BEGIN
  IF wanted THEN
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %I USING hnsw ((vector::halfvec(%s)) halfvec_cosine_ops)',
                   name, 'embeddings_' || model, width);
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %I (project_id)',
                   name || '_project', 'embeddings_' || model);
  ELSE
    EXECUTE format('DROP INDEX IF EXISTS %I, %I', name, name || '_project');
  END IF;
END $$;

-- Old answers to repeated requests and finished runs, of every project.
CREATE FUNCTION tenant.sweep(idempotency_age interval, run_age interval) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  WITH a AS (DELETE FROM idempotency WHERE created_at < now() - idempotency_age RETURNING 1),
       b AS (DELETE FROM runs WHERE finished_at < now() - run_age RETURNING 1)
  SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b) $$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA tenant FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tenant TO aidb_gateway;
