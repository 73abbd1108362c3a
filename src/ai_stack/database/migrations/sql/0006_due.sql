-- Whether any change is due, of whatever project: what a follower asks before it takes some.
CREATE FUNCTION tenant.has_due() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = aidb, pg_temp AS $$
  SELECT EXISTS (SELECT FROM dirty WHERE due <= now() AND NOT failed) $$;
REVOKE EXECUTE ON FUNCTION tenant.has_due() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant.has_due() TO aidb_gateway;
