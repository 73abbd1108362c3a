-- What is seen of the stack from outside: numbers over all projects, never whose they are.

-- How much there is. Of documents and passages the counts are exact: they are compared with those
-- of the index.
CREATE FUNCTION control.census(OUT projects bigint, OUT documents bigint, OUT chunks bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT (SELECT count(*) FROM projects), (SELECT count(*) FROM documents),
         (SELECT count(*) FROM chunks) $$;

-- The vectors of one model; of one that is not there any more there are none.
CREATE FUNCTION tenant.count_vectors(model int) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
DECLARE found bigint;
BEGIN
  IF to_regclass('aidb.embeddings_' || model) IS NULL THEN RETURN 0; END IF;
  EXECUTE format('SELECT count(*) FROM %I', 'embeddings_' || model) INTO found;
  RETURN found;
END $$;

-- Changes that the index has still to follow, and how long the one that is due longest has waited.
CREATE FUNCTION control.changes(OUT waiting bigint, OUT failed bigint, OUT oldest_s double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT count(*) FILTER (WHERE NOT d.failed), count(*) FILTER (WHERE d.failed),
         greatest(0, coalesce(extract(epoch FROM now() - min(d.due) FILTER (WHERE NOT d.failed)), 0))
  FROM dirty d $$;

CREATE FUNCTION control.count_runs() RETURNS TABLE (kind text, status text, count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT r.kind, r.status, count(*) FROM runs r GROUP BY 1, 2 $$;

CREATE FUNCTION control.count_jobs() RETURNS TABLE (queue text, status text, count bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = jobs, pg_temp AS $$
  SELECT j.queue_name::text, j.status::text, count(*) FROM procrastinate_jobs j GROUP BY 1, 2 $$;

-- Hours of use over all projects, by whom.
CREATE FUNCTION control.usage(since timestamptz, until timestamptz)
RETURNS TABLE (project_id uuid, project text, principal text, model text, requests bigint,
               cached bigint, prompt_tokens bigint, completion_tokens bigint,
               cost double precision, mean_ms double precision, max_ms double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT l.project_id, coalesce(p.name, ''), l.principal, l.model, count(*),
         count(*) FILTER (WHERE l.cached), coalesce(sum(l.prompt_tokens), 0),
         coalesce(sum(l.completion_tokens), 0), coalesce(sum(l.cost), 0)::double precision,
         coalesce(avg(l.total_ms), 0), coalesce(max(l.total_ms), 0)
  FROM inference_log l LEFT JOIN projects p ON p.id = l.project_id
  WHERE l.ts >= since AND l.ts < until GROUP BY 1, 2, 3, 4 $$;

CREATE FUNCTION control.usage_by_project(since timestamptz, until timestamptz)
RETURNS TABLE (project_id uuid, project text, model text, requests bigint,
               cached bigint, prompt_tokens bigint, completion_tokens bigint,
               cost double precision, mean_ms double precision, max_ms double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT h.project_id, coalesce(p.name, ''), h.model, sum(h.requests)::bigint,
         sum(h.cached)::bigint, coalesce(sum(h.prompt_tokens), 0)::bigint,
         coalesce(sum(h.completion_tokens), 0)::bigint, coalesce(sum(h.cost), 0)::double precision,
         sum(h.mean_ms * h.requests) / sum(h.requests), coalesce(max(h.max_ms), 0)
  FROM inference_hourly h LEFT JOIN projects p ON p.id = h.project_id
  WHERE h.hour >= since AND h.hour < until GROUP BY 1, 2, 3 $$;

-- What workers count in their own processes: sums that outlive each of them, which every gateway
-- tells, and how each is at this moment. Neither has to outlive a crash of the server.
CREATE UNLOGGED TABLE control.worker_counts (
  series text PRIMARY KEY COLLATE "C",
  value  double precision NOT NULL,
  at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE UNLOGGED TABLE control.workers (
  id     uuid PRIMARY KEY,
  at     timestamptz NOT NULL DEFAULT now(),
  gauges jsonb NOT NULL
) WITH (fillfactor = 50);

REVOKE ALL ON FUNCTION control.census, control.changes, control.count_runs, control.count_jobs,
  control.usage, control.usage_by_project, tenant.count_vectors FROM PUBLIC;
GRANT EXECUTE ON FUNCTION control.census, control.changes, control.count_runs, control.count_jobs,
  control.usage, control.usage_by_project TO aidb_control;
GRANT EXECUTE ON FUNCTION tenant.count_vectors TO aidb_gateway, aidb_control;
