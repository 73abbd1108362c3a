-- What is spent of budgets: a row for each subject, rule and period. What a gateway has leased
-- counts as spent until it gives it back.
CREATE TABLE control.spent (
  subject text NOT NULL COLLATE "C",
  rule    text NOT NULL COLLATE "C",
  period  date NOT NULL,
  amount  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (subject, rule, period)
) WITH (fillfactor = 50);
COMMENT ON COLUMN control.spent.period IS 'its first day, UTC';

-- A slice of a budget: what is needed or nothing, and more of it while there is plenty. The slice
-- shrinks with what is left, down to what is needed: then budgets are exact.
CREATE FUNCTION control.lease(
  of_subject text, of_rule text, of_period date, most bigint, needed bigint, wanted bigint,
  OUT granted bigint, OUT leased bigint
) LANGUAGE plpgsql AS $$
DECLARE room bigint;
BEGIN
  INSERT INTO control.spent VALUES (of_subject, of_rule, of_period) ON CONFLICT DO NOTHING;
  SELECT amount INTO leased FROM control.spent
    WHERE subject = of_subject AND rule = of_rule AND period = of_period FOR UPDATE;
  room := greatest(most - leased, 0);
  granted := 0;
  IF room >= needed THEN
    granted := least(room, greatest(wanted, least(most / 64, room / 16)));
    leased := leased + granted;
    UPDATE control.spent SET amount = leased
      WHERE subject = of_subject AND rule = of_rule AND period = of_period;
  END IF;
END $$;

-- Nobody's budgets outlive whom they belong to.
CREATE FUNCTION control.forget_spent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM control.spent WHERE subject = TG_ARGV[0] || ':' || OLD.id::text;
  RETURN NULL;
END $$;
CREATE TRIGGER forget_spent AFTER DELETE ON control.keys
  FOR EACH ROW EXECUTE FUNCTION control.forget_spent('key');
CREATE TRIGGER forget_spent AFTER DELETE ON aidb.projects
  FOR EACH ROW EXECUTE FUNCTION control.forget_spent('project');
