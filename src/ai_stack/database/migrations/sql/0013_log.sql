-- A batch of the log comes by COPY, at a fifth of what parsing it as JSON costs; the function stays
-- for a batch of which some rows are there already. Rows can be added by it, and nothing else.
GRANT INSERT ON aidb.inference_log TO aidb_gateway;
