-- Where the files of the watched folder were when they were followed: the folder itself (path '')
-- and what is mounted below it, each by its inode. Another inode tells of another folder.
CREATE TABLE aidb.places (
  project_id uuid NOT NULL,
  path       text NOT NULL,
  inode      numeric(20) NOT NULL,
  PRIMARY KEY (project_id, path)
);
CREATE VIEW tenant.places AS SELECT * FROM aidb.places
  WHERE project_id = nullif(current_setting('app.project', true), '')::uuid
  WITH CASCADED CHECK OPTION;
ALTER VIEW tenant.places ALTER COLUMN project_id SET DEFAULT tenant.project();
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant.places TO aidb_gateway;
