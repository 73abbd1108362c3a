-- A project that is deleted goes in batches, as a run of the default project that may die half-way.
ALTER TABLE aidb.projects
  ADD COLUMN deletion uuid,
  ADD CONSTRAINT projects_name_length CHECK (length(name) BETWEEN 1 AND 100);
COMMENT ON COLUMN aidb.projects.deletion IS 'the run of the default project that deletes it';

-- Where rows of a project may lie: whatever table has its id, now and after later migrations. Left
-- out are those whose rows go with another's, by a foreign key (bytes of files go in batches of
-- their own all the same), and those that a run may not touch: who has which key is asked of them
-- until the end, and the audit log stays.
CREATE FUNCTION tenant.traces() RETURNS TABLE (place text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id' AND NOT a.attisdropped
    WHERE n.nspname IN ('aidb', 'control') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND c.oid NOT IN ('control.audit'::regclass, 'control.key_projects'::regclass)
      AND (c.oid = 'aidb.run_blobs'::regclass OR NOT EXISTS (
        SELECT FROM pg_constraint f JOIN pg_attribute above
          ON above.attrelid = f.confrelid AND above.attname = 'project_id'
        WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.confdeltype = 'c'))
    ORDER BY c.oid = 'aidb.run_blobs'::regclass DESC, c.oid;
  IF aidb.has_timescale() THEN -- what a continuous aggregate has put by
    RETURN QUERY EXECUTE $q$
      SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
      FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'aidb' $q$;
  END IF;
END $$;

-- Delete up to `batch` rows of the transaction's project in one of these places; how many there
-- were. Only of a project that is being deleted, or is gone.
CREATE FUNCTION tenant.erase(place text, batch int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
DECLARE
  project uuid := nullif(current_setting('app.project', true), '')::uuid;
  gone bigint;
BEGIN
  IF project IS NULL OR EXISTS (SELECT FROM projects WHERE id = project AND state <> 'deleting') THEN
    RAISE EXCEPTION 'only a project that is being deleted is erased';
  END IF;
  IF NOT EXISTS (SELECT FROM tenant.traces() t WHERE t.place = erase.place) THEN
    RAISE EXCEPTION 'there are no rows of projects there';
  END IF;
  EXECUTE format('DELETE FROM %1$s WHERE project_id = $1 AND ctid = ANY (ARRAY(
    SELECT ctid FROM %1$s WHERE project_id = $1 LIMIT $2))', erase.place) USING project, batch;
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$;

-- What the audit log tells of a project that is being deleted: who did what and when stays, the
-- details go.
CREATE FUNCTION control.redact(project uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = control, pg_temp AS $$
DECLARE redacted bigint;
BEGIN
  IF EXISTS (SELECT FROM aidb.projects p WHERE p.id = project AND p.state <> 'deleting') THEN
    RAISE EXCEPTION 'only what is told of a project that is being deleted is redacted';
  END IF;
  UPDATE audit SET detail = '{}' WHERE project_id = project AND detail <> '{}';
  GET DIAGNOSTICS redacted = ROW_COUNT;
  RETURN redacted;
END $$;

-- The log of inferences takes nothing more of a project that is being deleted, or is gone. All else
-- is as in 0002_inference.sql.
CREATE OR REPLACE FUNCTION tenant.log_inferences(entries jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  INSERT INTO inference_log (id, ts, project_id, principal, model, engine, outcome, prompt_tokens,
                             completion_tokens, first_token_ms, total_ms, cached, cost, detail)
  SELECT e.id, to_timestamp(e.at), e.project_id, e.principal, e.model, e.engine, e.outcome,
         (e.usage->>'prompt')::int, (e.usage->>'completion')::int, e.first_token_ms, e.total_ms,
         e.cached, e.cost, coalesce(e.detail, '{}') || jsonb_build_object('operation', e.operation)
  FROM jsonb_to_recordset(entries) AS e(
    id uuid, at double precision, project_id uuid, principal text, operation text, model text,
    engine text, outcome text, usage jsonb, first_token_ms real, total_ms real, cached boolean,
    cost numeric, detail jsonb)
  WHERE EXISTS (SELECT FROM projects p WHERE p.id = e.project_id AND p.state <> 'deleting')
  ON CONFLICT DO NOTHING $$;

REVOKE ALL ON FUNCTION tenant.traces, tenant.erase, control.redact FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant.traces, tenant.erase TO aidb_gateway;
GRANT EXECUTE ON FUNCTION control.redact TO aidb_control;
