-- Who may do what. These tables belong to no project, so they lie in a schema of their own, which
-- only the role aidb_control can use: the gateway takes that role for one unit of work at a time.
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aidb_control') THEN
    CREATE ROLE aidb_control NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_auth_members
                 WHERE roleid = 'aidb_control'::regrole AND member = 'aidb_gateway'::regrole) THEN
    GRANT aidb_control TO aidb_gateway WITH INHERIT FALSE, SET TRUE;
  END IF;
END $$;

CREATE SCHEMA control;

ALTER TABLE aidb.projects
  ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'deleting')),
  ADD COLUMN limits jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN settings jsonb NOT NULL DEFAULT '{}';

CREATE TABLE control.users (
  id         uuid PRIMARY KEY,
  name       text NOT NULL UNIQUE COLLATE "C" CHECK (length(name) BETWEEN 1 AND 255),
  password   text,
  is_admin   boolean NOT NULL DEFAULT false,
  state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN control.users.password IS 'argon2id; NULL for who logs in by an issuer alone';

-- Who a user is at an OpenID Connect issuer.
CREATE TABLE control.identities (
  issuer  text NOT NULL,
  subject text NOT NULL,
  user_id uuid NOT NULL REFERENCES control.users ON DELETE CASCADE,
  PRIMARY KEY (issuer, subject)
);

CREATE TABLE control.members (
  project_id uuid NOT NULL REFERENCES aidb.projects ON DELETE CASCADE,
  user_id    uuid NOT NULL REFERENCES control.users ON DELETE CASCADE,
  role       text NOT NULL CHECK (role IN ('owner', 'editor', 'reader')),
  PRIMARY KEY (project_id, user_id)
);
CREATE INDEX members_user ON control.members (user_id);

-- A key's secret is kept as HMAC-SHA256 under a pepper that is not in the database.
CREATE TABLE control.keys (
  id         text PRIMARY KEY COLLATE "C" CHECK (length(id) = 8),
  secret     bytea NOT NULL,
  name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
  user_id    uuid REFERENCES control.users ON DELETE CASCADE,
  root       text NOT NULL COLLATE "C",
  maker      text COLLATE "C",
  scopes     text[] NOT NULL,
  toolsets   text[],
  limits     jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz
);
CREATE INDEX keys_user ON control.keys (user_id);
CREATE INDEX keys_maker ON control.keys (maker);
COMMENT ON COLUMN control.keys.user_id IS 'whose roles bound the key; NULL for one of a service';
COMMENT ON COLUMN control.keys.root IS 'what its use counts for: the first of those that it was rotated from, or itself';
COMMENT ON COLUMN control.keys.maker IS 'the root of the key that made it; NULL for who is no key';

CREATE TABLE control.key_projects (
  key_id     text NOT NULL REFERENCES control.keys ON DELETE CASCADE,
  project_id uuid NOT NULL REFERENCES aidb.projects ON DELETE CASCADE,
  PRIMARY KEY (key_id, project_id)
);
CREATE INDEX key_projects_project ON control.key_projects (project_id);

CREATE TABLE control.key_uses (
  key_id  text PRIMARY KEY REFERENCES control.keys ON DELETE CASCADE,
  used_at timestamptz NOT NULL
) WITH (fillfactor = 70);

-- What a browser or a shell holds after a login, kept as a hash.
CREATE TABLE control.logins (
  hash       bytea PRIMARY KEY,
  user_id    uuid NOT NULL REFERENCES control.users ON DELETE CASCADE,
  kind       text NOT NULL CHECK (kind IN ('browser', 'shell')),
  issuer     text,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX logins_user ON control.logins (user_id);
CREATE INDEX logins_expiry ON control.logins (expires_at);

-- What changed who may do what, and who did it.
CREATE TABLE control.audit (
  id         uuid PRIMARY KEY,
  at         timestamptz NOT NULL DEFAULT now(),
  actor      text NOT NULL,
  action     text NOT NULL,
  subject    text NOT NULL,
  project_id uuid,
  detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_project ON control.audit (project_id, id);

GRANT USAGE ON SCHEMA control, tenant TO aidb_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA control TO aidb_control;
REVOKE UPDATE, DELETE ON control.audit FROM aidb_control;
GRANT USAGE ON SCHEMA aidb TO aidb_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON aidb.projects TO aidb_control;
ALTER DEFAULT PRIVILEGES IN SCHEMA control
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO aidb_control;

-- Whatever takes a right away, or gives one, is told to every gateway as it is committed: none
-- trusts what it has found out before.
CREATE FUNCTION control.announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('aidb_rights', 'changed');
  RETURN NULL;
END $$;

DO $$
DECLARE changed text;
BEGIN
  FOREACH changed IN ARRAY ARRAY['control.users', 'control.members', 'control.keys',
                                 'control.key_projects', 'aidb.projects'] LOOP
    EXECUTE format('CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON %s
                    FOR EACH STATEMENT EXECUTE FUNCTION control.announce()', changed);
  END LOOP;
END $$;
CREATE TRIGGER announce AFTER UPDATE OR DELETE ON control.logins
  FOR EACH STATEMENT EXECUTE FUNCTION control.announce();

-- Who started a run, and with which rights: the worker has no more than these.
ALTER TABLE aidb.runs ADD COLUMN principal jsonb NOT NULL DEFAULT '{}';
CREATE OR REPLACE VIEW tenant.runs AS SELECT * FROM aidb.runs
  WHERE project_id = nullif(current_setting('app.project', true), '')::uuid
  WITH CASCADED CHECK OPTION;
