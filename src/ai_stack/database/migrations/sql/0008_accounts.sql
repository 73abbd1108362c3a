ALTER TABLE control.users
  ADD COLUMN temporary  boolean NOT NULL DEFAULT false,
  ADD COLUMN generation integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN control.users.temporary IS 'the password is good for choosing another one alone';
COMMENT ON COLUMN control.users.generation IS 'tokens of an earlier one are refused';

-- Whether there ever was a user.
CREATE INDEX audit_users ON control.audit (id) WHERE action = 'user.create';

-- Failed logins by name and by address, each hidden under the pepper. Here rather than in a
-- gateway's memory, so that several gateways count together and a restart forgives nothing.
CREATE TABLE control.attempts (
  subject  bytea PRIMARY KEY,
  failures integer NOT NULL,
  last_at  timestamptz NOT NULL,
  until    timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX attempts_last ON control.attempts (last_at);

-- Keys that sign our tokens, sealed with one that is not in the database. One signs at a time;
-- the others verify until the last token that they signed has expired.
CREATE TABLE control.signing_keys (
  id         text PRIMARY KEY COLLATE "C",
  sealed     bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  retires_at timestamptz
);
CREATE UNIQUE INDEX signing_keys_current ON control.signing_keys ((true)) WHERE retires_at IS NULL;
CREATE TRIGGER announce AFTER UPDATE OR DELETE ON control.signing_keys
  FOR EACH STATEMENT EXECUTE FUNCTION control.announce();
