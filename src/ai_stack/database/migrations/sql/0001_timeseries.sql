-- Time series: hypertables with retention and hourly aggregates where TimescaleDB is present
-- (its community licence for the latter), plain tables with the same views where it is not.
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
     AND current_setting('shared_preload_libraries') ~ '(^|,)\s*"?timescaledb"?\s*(,|$)' THEN
    CREATE EXTENSION IF NOT EXISTS timescaledb;
  END IF;
END $$;

CREATE FUNCTION aidb.has_timescale() RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT coalesce((SELECT (string_to_array(split_part(extversion, '-', 1), '.')::int[])[1:2] >= ARRAY[2, 13]
                   FROM pg_extension WHERE extname = 'timescaledb'), false) $$;

CREATE TABLE aidb.inference_log (
  id                uuid NOT NULL DEFAULT uuidv7(),
  ts                timestamptz NOT NULL DEFAULT now(),
  project_id        uuid NOT NULL,
  principal         text NOT NULL,
  model             text NOT NULL,
  engine            text,
  outcome           text NOT NULL,
  prompt_tokens     int,
  completion_tokens int,
  first_token_ms    real,
  total_ms          real,
  cached            boolean NOT NULL DEFAULT false,
  cost              numeric NOT NULL DEFAULT 0,
  detail            jsonb,
  PRIMARY KEY (id, ts)
);
CREATE TABLE aidb.events (
  id         uuid NOT NULL DEFAULT uuidv7(),
  ts         timestamptz NOT NULL DEFAULT now(),
  project_id uuid NOT NULL,
  kind       text NOT NULL,
  payload    jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (id, ts)
);
CREATE TABLE aidb.skill_runs (
  id          uuid NOT NULL DEFAULT uuidv7(),
  ts          timestamptz NOT NULL DEFAULT now(),
  project_id  uuid NOT NULL,
  skill       text NOT NULL,
  status      text NOT NULL,
  duration_ms real,
  detail      jsonb,
  PRIMARY KEY (id, ts)
);
CREATE INDEX inference_log_project ON aidb.inference_log (project_id, ts DESC);
CREATE INDEX events_project ON aidb.events (project_id, ts DESC);
CREATE INDEX skill_runs_project ON aidb.skill_runs (project_id, ts DESC);

DO $$
DECLARE series text;
BEGIN
  IF aidb.has_timescale() THEN
    FOREACH series IN ARRAY ARRAY['inference_log', 'events', 'skill_runs'] LOOP
      PERFORM create_hypertable(format('aidb.%I', series)::regclass, by_range('ts', INTERVAL '1 day'),
                                if_not_exists => true, migrate_data => true);
    END LOOP;
  END IF;
END $$;

-- Hourly use by project and model; compression and retention come with the aggregate.
DO $$
DECLARE
  community boolean := false;
  body text := $q$ AS SELECT %s AS hour, project_id, model, count(*) AS requests,
    sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
    sum(cost) AS cost, avg(total_ms) AS mean_ms, max(total_ms) AS max_ms,
    count(*) FILTER (WHERE cached) AS cached
    FROM aidb.inference_log GROUP BY 1, 2, 3 $q$;
  series text;
BEGIN
  IF aidb.has_timescale() THEN
    community := current_setting('timescaledb.license', true) = 'timescale';
  END IF;
  IF NOT community THEN
    EXECUTE 'CREATE VIEW aidb.inference_hourly'
      || format(body, $b$date_bin('1 hour', ts, TIMESTAMPTZ '2000-01-01 00:00+00')$b$);
  ELSE
    EXECUTE 'CREATE MATERIALIZED VIEW aidb.inference_hourly
             WITH (timescaledb.continuous, timescaledb.materialized_only = false)'
      || format(body, $b$time_bucket('1 hour', ts)$b$) || 'WITH NO DATA';
    PERFORM add_continuous_aggregate_policy('aidb.inference_hourly', start_offset => INTERVAL '3 days',
      end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '30 minutes');
    FOREACH series IN ARRAY ARRAY['inference_log', 'events', 'skill_runs'] LOOP
      EXECUTE format('ALTER TABLE aidb.%I SET (timescaledb.compress, timescaledb.compress_orderby = ''ts DESC'')', series);
      PERFORM add_compression_policy(format('aidb.%I', series)::regclass, INTERVAL '7 days', if_not_exists => true);
      PERFORM add_retention_policy(format('aidb.%I', series)::regclass, INTERVAL '90 days', if_not_exists => true);
    END LOOP;
  END IF;
END $$;
