-- A run may wait for a person's answer.
ALTER TABLE aidb.runs DROP CONSTRAINT runs_status_check;
ALTER TABLE aidb.runs ADD CONSTRAINT runs_status_check
  CHECK (status IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled'));
