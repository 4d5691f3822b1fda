-- DROP EXTENSION deletes the log, but only by CASCADE the clicks no tick has taken.
SET client_min_messages = warning;
CREATE EXTENSION adclick;
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', sqlstate || ' ' || sqlerrm, regexp_replace(detail, '\d{4}-.*', 'TIME'), hint);
END
$$;
\a \t
INSERT INTO adclick.clicks (ad_id) VALUES (1);
SELECT pg_temp.try('DROP EXTENSION adclick');
INSERT INTO adclick.clicks (ad_id) VALUES (1);
SELECT pg_temp.try('DROP EXTENSION IF EXISTS plpgsql_not_there, adclick RESTRICT');

-- The log is no less safe when its owner is dropped.
SELECT extowner::regrole AS owner FROM pg_extension WHERE extname = 'adclick' \gset
CREATE ROLE regress_owner SUPERUSER;
UPDATE pg_extension SET extowner = 'regress_owner'::regrole WHERE extname = 'adclick';
SELECT pg_temp.try('DROP OWNED BY regress_owner');
SELECT split_part(pg_temp.try('DROP SCHEMA adclick CASCADE'), E'\n', 1);
UPDATE pg_extension SET extowner = :'owner'::regrole WHERE extname = 'adclick';
DROP ROLE regress_owner;

-- A stranger is told nothing about the log.
CREATE ROLE regress_stranger;
SET ROLE regress_stranger;
SELECT pg_temp.try('DROP EXTENSION adclick');
RESET ROLE;
DROP ROLE regress_stranger;

-- Nothing is in the way once a tick has taken them, or by CASCADE.
SELECT counted FROM adclick.tick();
DROP EXTENSION adclick;
CREATE EXTENSION adclick;
INSERT INTO adclick.clicks (ad_id) VALUES (1);
DROP EXTENSION adclick CASCADE;
