-- The project of a transaction is read once a statement, not once a row: a search by words looks
-- at thousands of passages. All else is as in 0001_tenants.sql.
CREATE OR REPLACE VIEW tenant.chunks AS SELECT * FROM aidb.chunks
  WHERE project_id = (SELECT nullif(current_setting('app.project', true), '')::uuid)
  WITH CASCADED CHECK OPTION;
