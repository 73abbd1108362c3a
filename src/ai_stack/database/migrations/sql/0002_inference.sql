-- The log of inferences is written in batches, rows of several projects in one, so by a function
-- with the owner's rights: it can add rows and nothing else.
CREATE FUNCTION tenant.log_inferences(entries jsonb) RETURNS void
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
  ON CONFLICT DO NOTHING $$;

-- Forgets what is older; with TimescaleDB whole chunks are dropped by its own policy instead.
CREATE FUNCTION tenant.sweep_inferences(older interval) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  WITH gone AS (DELETE FROM inference_log WHERE ts < now() - older RETURNING 1)
  SELECT count(*) FROM gone $$;

-- Responses that a client asked to be stored: what came in, what was answered, and after which.
CREATE TABLE aidb.responses (
  id         text PRIMARY KEY,
  project_id uuid NOT NULL,
  previous   text,
  created_at timestamptz NOT NULL DEFAULT now(),
  input      jsonb NOT NULL,
  response   jsonb NOT NULL
);
CREATE INDEX responses_project ON aidb.responses (project_id, created_at DESC);
CREATE VIEW tenant.responses AS SELECT * FROM aidb.responses
  WHERE project_id = nullif(current_setting('app.project', true), '')::uuid
  WITH CASCADED CHECK OPTION;
ALTER VIEW tenant.responses ALTER COLUMN project_id SET DEFAULT tenant.project();
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.responses TO aidb_gateway;
CREATE FUNCTION tenant.sweep_responses(older interval) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  WITH gone AS (DELETE FROM responses WHERE created_at < now() - older RETURNING 1)
  SELECT count(*) FROM gone $$;
REVOKE ALL ON FUNCTION tenant.log_inferences, tenant.sweep_inferences, tenant.sweep_responses FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant.log_inferences, tenant.sweep_inferences, tenant.sweep_responses
  TO aidb_gateway;
