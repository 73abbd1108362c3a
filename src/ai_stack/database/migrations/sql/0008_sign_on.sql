-- Shells that wait until a person signs in for them (RFC 8628). Both codes are kept as hashes, and
-- a row is taken out when its shell gets its login.
CREATE TABLE control.devices (
  hash       bytea PRIMARY KEY,
  code       bytea NOT NULL UNIQUE,
  name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
  address    text NOT NULL,
  state      text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'approved', 'denied')),
  user_id    uuid REFERENCES control.users ON DELETE CASCADE,
  interval_s integer NOT NULL,
  polled_at  timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  CHECK ((state = 'approved') = (user_id IS NOT NULL))
);
CREATE INDEX devices_expiry ON control.devices (expires_at);
COMMENT ON COLUMN control.devices.code IS 'what the person compares and types';

-- Wrong codes that a user has typed since a moment: few are free.
CREATE TABLE control.guesses (
  user_id uuid PRIMARY KEY REFERENCES control.users ON DELETE CASCADE,
  wrong   integer NOT NULL,
  since   timestamptz NOT NULL
);

-- Sign-ons that have come back from an issuer: none does twice.
CREATE TABLE control.sign_ons (
  hash       bytea PRIMARY KEY,
  expires_at timestamptz NOT NULL
);
CREATE INDEX sign_ons_expiry ON control.sign_ons (expires_at);
